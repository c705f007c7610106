package processor

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

// Holder is a sink that can say what it holds.
//
// Deletions of what CDC leaves out, and of a type of which more than 1,000 records have
// changed, show in no call to Intuit: a scan finds them by the marks, which say what a
// sink has. Where Redis has lost marks, a Holder gives them back; without one such a
// record stays in the sinks, see `ledgerfeed audit`.
type Holder interface {
	// Held are the versions of all records of the entities, tombstones included, of one
	// realm after the other.
	Held(ctx context.Context, entities []string) iter.Seq2[sink.Version, error]
}

const (
	// rememberInterval is how often Redis is asked whether it is still the one it was.
	rememberInterval = 10 * time.Second
	// rememberLease is how long the others leave it to one that has died meanwhile.
	rememberLease = 30 * time.Second
	rememberBatch = 1000
)

// keepRemembering gives Redis back the marks it may have lost, until ctx ends.
func (p *Processor) keepRemembering(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := p.remember(ctx); err != nil && !errors.Is(err, state.ErrHeld) && ctx.Err() == nil {
			p.log.Warn("mark restore failed, will retry", telemetry.Error(err))
		}
		_ = lifecycle.Sleep(ctx, p.rememberEvery) // its error is the end of ctx
	}
	return nil
}

// remember notes once for each life of Redis, all replicas together, what the sinks hold.
// Scans wait for it.
func (p *Processor) remember(ctx context.Context) error {
	memory, err := p.state.Memory(ctx)
	if err != nil || !memory.Forgotten() {
		return err
	}
	lease, err := p.state.Lease(ctx, "remember", rememberLease)
	if err != nil {
		return err
	}
	defer func() { _ = lease.Release(ctx) }() // it runs out by itself
	if memory, err = p.state.Remembering(ctx, memory); err != nil {
		return err
	}
	for _, out := range p.outputs {
		holder, ok := ability[Holder](out.Sink)
		if !ok {
			continue
		}
		began := time.Now()
		n, err := p.giveBack(ctx, lease, out.Name(), holder)
		if err != nil {
			return fmt.Errorf("read the marks that sink %s holds: %w", out.Name(), err)
		}
		p.log.Info("marks restored from sink", telemetry.Sink(out.Name()), telemetry.Count(n), telemetry.Took(time.Since(began)))
	}
	return p.state.Remembered(ctx, memory)
}

// giveBack moves the marks of a sink up to what it holds.
func (p *Processor) giveBack(ctx context.Context, lease *state.Lease, name string, holder Holder) (n int, err error) {
	var realm string
	var known []state.Advance
	flush := func() error {
		if len(known) == 0 {
			return nil
		}
		if err := lease.Renew(ctx); err != nil {
			return err
		}
		n += len(known)
		err := p.state.Advance(ctx, realm, name, known)
		known = known[:0]
		return err
	}
	erased := false // the realm: what its sink keeps is no reason to keep more
	for held, err := range holder.Held(ctx, queried()) {
		if err != nil {
			return n, err
		}
		if held.Realm != realm || len(known) == rememberBatch {
			if err := flush(); err != nil {
				return n, err
			}
			if held.Realm != realm {
				erased = p.erased(ctx, held.Realm)
			}
			realm = held.Realm
		}
		if erased {
			continue
		}
		known = append(known, state.Advance{Ref: state.Ref{Entity: held.Entity, ID: held.ID}, Version: held.Version, Hash: held.ContentHash})
	}
	return n, flush()
}

// queried are the entities that a scan can ask for.
func queried() (names []string) {
	for _, info := range entity.All() {
		if info.Query {
			names = append(names, info.Name)
		}
	}
	return names
}

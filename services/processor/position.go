package processor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

// Positioned is a sink that can say how far it is, and so whether it lost what it had
// acknowledged: a database that was restored from a backup, or failed over to a standby
// that had not got everything. The marks then say more than the sink holds, and no scan
// would deliver it again.
type Positioned interface {
	// Position returns where the sink is, and moves on with each call. Once it has
	// returned, that call survives a crash as the writes before it do.
	Position(ctx context.Context) (sink.Position, error)
	// Versions are the versions that the sink holds of those records, tombstones
	// included.
	Versions(ctx context.Context, realm, entity string, ids []string) (map[string]sink.Row, error)
}

const (
	// positionLease is how long the others leave it to a replica that has died meanwhile.
	positionLease = 30 * time.Second
	// secondLook is when the marks are compared once more after a loss: a write that the
	// lost server had taken may be marked some time after the first comparison.
	secondLook = 2 * time.Minute
	// rewindMargin is how far a cursor goes back before the first change that was lost.
	rewindMargin = time.Minute
)

var errMarks = errors.New("compare marks with the sink")

// keepPosition looks at the position of a sink, of all replicas one at a time, until ctx
// ends.
func (p *Processor) keepPosition(ctx context.Context, out *output) error {
	sink, ok := ability[Positioned](out.Sink)
	if !ok {
		return nil
	}
	log := p.log.With(telemetry.Sink(out.Name()))
	for ctx.Err() == nil {
		err := p.lookAtSink(ctx, out, sink, log)
		switch {
		case err == nil || errors.Is(err, state.ErrHeld) || ctx.Err() != nil:
		case errors.Is(err, errMarks):
			log.Warn("comparing marks with the sink failed, will retry", telemetry.Error(err))
		default:
			log.Debug("sink position unknown", telemetry.Error(err))
		}
		_ = lifecycle.Sleep(ctx, p.rememberEvery) // its error is the end of ctx
	}
	return nil
}

// lookAtSink compares a sink's position with the last one. What is noted here was written
// to the sink before, so that a loss of either shows: a sink that is behind has lost
// something, a Redis that is behind has not.
func (p *Processor) lookAtSink(ctx context.Context, out *output, from Positioned, log *zap.Logger) error {
	lease, err := p.state.Lease(ctx, "position:"+out.Name(), positionLease)
	if err != nil {
		return err
	}
	defer func() { _ = lease.Release(ctx) }() // it runs out by itself
	before, err := p.state.SinkPosition(ctx, out.Name())
	if err != nil {
		return err
	}
	// What a replica has left that died in between.
	if err := p.rewindFor(ctx, out.Name(), before.Rewinds); err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, p.config.WriteTimeout)
	at, err := from.Position(bounded)
	cancel()
	if err != nil {
		return err
	}
	now, err := p.state.Now(ctx)
	if err != nil {
		return err
	}
	after := state.SinkPosition{ID: at.ID, Server: at.Server, N: at.N, Again: before.Again}
	suspect := p.suspect(out, before, at)
	again := !before.Again.IsZero() && !now.Before(before.Again)
	if suspect != "" || again {
		began := time.Now()
		lowered, err := p.resetMarks(ctx, lease, out, from)
		if err != nil {
			return fmt.Errorf("%w: %w", errMarks, err)
		}
		after.Again = time.Time{}
		if suspect != "" {
			after.Again = now.Add(secondLook)
		}
		fields := []zap.Field{telemetry.Reason(suspect), telemetry.Count(lowered), telemetry.Took(time.Since(began))}
		if lowered > 0 {
			log.Warn("sink lost changes; scans will redeliver them", fields...)
		} else {
			log.Info("marks match the sink; nothing lost", fields...)
		}
	}
	return p.state.SetSinkPosition(ctx, out.Name(), after)
}

// suspect says why the sink may have lost something; empty if it has not. A filter of
// operations makes marks of what was never written, and nothing tells them from what is
// lost: there a restart of the server alone is no reason.
func (p *Processor) suspect(out *output, before state.SinkPosition, at sink.Position) string {
	switch {
	case before.ID == "":
		return "" // nobody has looked before
	case at.ID != before.ID:
		return "it is another store"
	case at.N <= before.N:
		return "it is in an earlier state"
	case at.Server != before.Server && out.filter.operations == nil:
		return "its server was restarted"
	}
	return ""
}

// resetMarks lowers the marks of a sink to what it holds, and has what it lacks scanned
// again. It returns how many it lowered. A mark that is made meanwhile stays: whoever
// made it has written before.
func (p *Processor) resetMarks(ctx context.Context, lease *state.Lease, out *output, from Positioned) (n int, err error) {
	realms, err := p.connections.List(ctx)
	if err != nil {
		return 0, err
	}
	for _, realm := range realms {
		if err := lease.Renew(ctx); err != nil {
			return n, err
		}
		marked, err := p.state.Marked(ctx, realm, out.Name(), queried())
		if err != nil {
			return n, err
		}
		rewinds := map[state.Rewind]time.Time{}
		for _, entity := range marked {
			if !out.filter.reads(realm, entity) {
				continue // marks of what it is not given
			}
			r := reset{p: p, lease: lease, sink: out.Name(), from: from, of: state.Rewind{Realm: realm, Entity: entity}}
			lowered, err := r.run(ctx)
			n += lowered
			if err != nil {
				return n, err
			}
			if r.found {
				rewinds[r.of] = r.first
			}
		}
		if err := p.rewindFor(ctx, out.Name(), rewinds); err != nil {
			return n, err
		}
	}
	return n, nil
}

// reset is about the records of one entity of a realm.
type reset struct {
	p     *Processor
	lease *state.Lease
	sink  string
	from  Positioned
	of    state.Rewind

	found bool
	first time.Time // of what is lost, by Intuit's clock
}

func (r *reset) run(ctx context.Context) (n int, err error) {
	for page, err := range r.p.state.MarkPages(ctx, r.of.Realm, r.sink, r.of.Entity) {
		if err != nil {
			return n, err
		}
		if err := r.lease.Renew(ctx); err != nil {
			return n, err
		}
		lost, err := r.lost(ctx, page)
		if err != nil {
			return n, err
		}
		if len(lost) == 0 {
			continue
		}
		// Before the marks say so: a crash in between must not lose it.
		if err := r.p.state.NoteRewind(ctx, r.sink, r.of, r.first); err != nil {
			return n, err
		}
		some, err := r.p.state.LowerMarks(ctx, r.of.Realm, r.sink, r.of.Entity, lost)
		n += some
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// lost are the marks of a page that say more than the sink holds. They were read before
// the sink is asked.
func (r *reset) lost(ctx context.Context, page []state.HeldMark) (lost []state.Lower, err error) {
	ids := make([]string, len(page))
	for i, m := range page {
		ids[i] = m.ID
	}
	ctx, cancel := context.WithTimeout(ctx, r.p.config.WriteTimeout)
	defer cancel()
	held, err := r.from.Versions(ctx, r.of.Realm, r.of.Entity, ids)
	if err != nil {
		return nil, err
	}
	for _, m := range page {
		has := held[m.ID]
		another := m.Version == has.Version && m.Hash != "" && has.ContentHash != "" && m.Hash != has.ContentHash
		if m.Version <= has.Version && !another {
			continue
		}
		lost = append(lost, state.Lower{HeldMark: m, To: has.Version, Hash: has.ContentHash})
		// QuickBooks has that version or a later one: a scan from there on sees it.
		at := qbo.VersionTime(m.Version).Add(-rewindMargin)
		if at.Unix() <= 0 {
			at = time.Time{}
		}
		if !r.found || at.Before(r.first) {
			r.found, r.first = true, at
		}
	}
	return lost, nil
}

// rewindFor moves cursors back for a sink and makes their realms due.
func (p *Processor) rewindFor(ctx context.Context, sink string, rewinds map[state.Rewind]time.Time) error {
	for r, to := range rewinds {
		if err := p.state.RewindCursors(ctx, r.Realm, []string{r.Entity}, to); err != nil {
			return err
		}
		if err := p.state.ScheduleIn(ctx, r.Realm, 0); err != nil {
			return err
		}
		if err := p.state.ClearRewind(ctx, sink, r); err != nil {
			return err
		}
	}
	return nil
}

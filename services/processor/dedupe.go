package processor

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// errParked: the realm is connected no more, but will be again. See settle.
var errParked = errors.New("the realm is parked")

// admit stops a batch whose realm cannot be read.
func (p *Processor) admit(ctx context.Context, b *batch) error {
	admission, err := p.connections.Admission(ctx, b.realm)
	switch {
	case errors.Is(err, connection.ErrErased):
		return errParked // nothing may be kept of it, no dead letter either
	case errors.Is(err, connection.ErrNotConnected):
		return p.withoutRecord(ctx, b, err)
	case err != nil:
		return paused(fmt.Errorf("look up the connection: %w", err))
	}
	connected := admission.State
	if p.refuseForeign(b, admission.App); len(b.items) == 0 {
		return nil
	}
	if connected == connection.Pending {
		return errParked // its first load covers everything, and nothing is kept of it before
	}
	// Of a parked realm too: its events are acked, and no scan can tell of a merge.
	if err := p.noteMerges(ctx, b); err != nil {
		return err
	}
	switch {
	case connected == connection.Disconnected:
		p.noteLate(ctx, b)
		return errParked
	case connected != connection.Live && !connected.Refused():
		return errParked
	}
	return p.admitted(ctx, b)
}

// noteLate counts webhooks of a realm that is disconnected: they show that Intuit does not
// know of it. A count that fails is not worth another try.
func (p *Processor) noteLate(ctx context.Context, b *batch) {
	n := 0
	for _, it := range b.items {
		for _, u := range it.units {
			if u.webhook() {
				n++
			}
		}
	}
	if n == 0 {
		return
	}
	if err := p.connections.NoteLate(ctx, b.realm, n); err != nil {
		p.log.Debug("webhooks of a disconnected realm not counted", telemetry.Realm(b.realm), telemetry.Error(err))
	}
}

// paused puts a message off for a moment because Redis did not answer. The delay
// does not grow: Redis is ours, and everything waits for it.
func paused(err error) error {
	return stream.RetryAfter(fmt.Errorf("%w: %w", errPaused, err), time.Second+rand.N(2*time.Second))
}

var errPaused = errors.New("no answer from Redis")

// dedupe takes out of each unit the sinks that have its effect, and out of the
// batch the items that no sink lacks.
func (p *Processor) dedupe(ctx context.Context, b *batch) error {
	var asked sinkSet
	refs := make([]state.Ref, len(b.items))
	for i, it := range b.items {
		refs[i] = it.ref
		it.marks = make([]state.Mark, len(p.outputs))
		it.failed = make([]error, len(p.outputs))
		for _, u := range it.units {
			asked |= u.sinks
		}
	}
	for s := range asked.each() {
		marks, err := p.state.Marks(ctx, b.realm, p.outputs[s].Name(), refs)
		if err != nil {
			return paused(err)
		}
		for i, it := range b.items {
			it.marks[s] = marks[i]
		}
	}
	b.keep(func(it *item) bool {
		for _, u := range it.units {
			for s := range u.sinks.each() {
				if it.covers(it.marks[s], u) {
					u.sinks = u.sinks.without(s)
				}
			}
			if u.sinks == 0 {
				p.count.duplicate()
			}
			it.lacking |= u.sinks
		}
		return it.lacking != 0
	})
	return nil
}

// covers reports whether what was delivered at m includes the effect of u.
// Too few are safe, they cost a call; see ADR 1 and 19.
func (it *item) covers(m state.Mark, u *unit) bool {
	gone := qbo.IsTombstone(m.Version)
	switch {
	case gone && sabotage.On(sabotage.TombstoneFinal):
		return true
	case u.replay():
		return false // a person wants it again
	case u.restored() && (gone || u.from.env.GetSink() != ""):
		return false // of one sink: what it holds was looked at, the mark may be wrong
	case it.removes(u):
		return gone
	case u.version > 0 && m.Version == u.version && u.hash != "" && !sabotage.On(sabotage.ContentIgnored):
		return m.Hash == u.hash
	case u.version > 0:
		return m.Version > 0 && !qbo.Newer(m.Version, u.version)
	case u.occurred.IsZero():
		return false
	}
	if sabotage.On(sabotage.TiesDropped) && u.occurred.Unix() == m.Version/versionsPerSecond {
		return true
	}
	return u.occurred.Unix() < m.Version/versionsPerSecond || !latest(u.occurred).After(m.Covered)
}

// latest is when an event of that time may have happened at the latest. A time
// without a fraction of a second may be one that was cut off: the legacy format
// has both kinds.
func latest(t time.Time) time.Time {
	if whole(t) {
		return t.Add(time.Second - time.Millisecond)
	}
	return t.Truncate(time.Millisecond)
}

func whole(t time.Time) bool { return t.Nanosecond() == 0 }

// versionsPerSecond is the scale of a version: see qbo.Version.
const versionsPerSecond = 1_000_000

// removes reports whether u says that the record is gone: a transaction was deleted,
// a record was merged away, or a scan did not find it. Deleting a record of a name
// list only makes it inactive, and of an entity unknown to us we cannot tell.
func (it *item) removes(u *unit) bool {
	return u.operation == ledgerfeedv1.Operation_OPERATION_DELETE && (u.version > 0 || u.mergedInto != "" || it.known && !it.info.List)
}

// confirmed reports whether u is a deletion that needs no read: ChangeDataCapture
// said so. Of name lists it is known to say so of records that are there.
func (it *item) confirmed(u *unit) bool {
	if sabotage.On(sabotage.DeletionUnconfirmed) {
		return it.removes(u)
	}
	return it.removes(u) && u.evidence == ledgerfeedv1.Evidence_EVIDENCE_CDC && it.known && !it.info.List
}

// keep drops the items that the steps to come need not look at.
func (b *batch) keep(want func(*item) bool) {
	kept := make([]*item, 0, len(b.items))
	for _, it := range b.items {
		if want(it) {
			kept = append(kept, it)
		}
	}
	b.items = kept
}

// spare takes out the sinks that are down: their units go to the retry queue
// without costing a read.
func (p *Processor) spare(_ context.Context, b *batch) error {
	var down sinkSet
	for s, out := range p.outputs {
		if out.down() {
			down = down.with(s)
		}
	}
	if down == 0 {
		return nil
	}
	b.keep(func(it *item) bool {
		for s := range (it.lacking & down).each() {
			it.failed[s] = errSinkDown
		}
		it.lacking &^= down
		return it.lacking != 0
	})
	return nil
}

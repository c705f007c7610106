package reconciler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

const (
	// watchesAGap is how many notes of what was heard there are at least to a silence
	// that counts.
	watchesAGap = 6
	// lagSuspect is the age of the oldest event on the stream from which on the
	// consumers are suspected to be stuck.
	lagSuspect = 15 * time.Minute
)

// watcher looks for outages of ours. Replicas share what they see in Redis: one that
// hears the ingress is enough.
type watcher struct {
	r     *Reconciler
	heard atomic.Bool
	stop  func() // nil: not listening yet
	// ensured is when the broker's record of the beats was last looked for.
	ensured time.Time
	known   func() // called when realms are due for the outage there was until now
}

// watch runs until ctx ends, and calls known after it has looked.
func (r *Reconciler) watch(ctx context.Context, known func()) error {
	w := &watcher{r: r, known: known}
	defer func() {
		if w.stop != nil {
			w.stop()
		}
	}()
	return r.every(ctx, min(enrolPolls*r.config.PollInterval, r.config.OutageGap/watchesAGap), w.step)
}

func (w *watcher) step(ctx context.Context) error {
	w.r.readClock(ctx)
	if w.stop == nil {
		stop, err := w.r.stream.Beats("ingress", func() { w.heard.Store(true) })
		if err != nil {
			return err
		}
		w.stop = stop
	}
	w.ensureHeartbeats(ctx)
	broker := w.r.lookAtBroker(ctx)
	heard := w.heard.Swap(false)
	got, err := w.r.noteWatch(ctx, heard)
	if err != nil {
		if heard {
			w.heard.Store(true) // for the next time
		}
		return errors.Join(broker, err)
	}
	w.r.learnBeat(got.Beat)
	if err := w.r.dueAfterOutage(ctx, got); err != nil {
		return errors.Join(broker, err)
	}
	w.known()
	return broker
}

func (r *Reconciler) learnBeat(at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.beat = at
}

// silence is how long nothing was heard of the ingress; 0 if it never was.
func (r *Reconciler) silence() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.beat.IsZero() {
		return 0
	}
	return max(0, r.now().Sub(r.beat))
}

// dueAfterOutage makes every realm due that an outage has touched, which is all of
// them, and says so only then: should this replica die in between, another does it
// again.
func (r *Reconciler) dueAfterOutage(ctx context.Context, w state.Watch) error {
	if !w.Pending() {
		return nil
	}
	lease, err := r.state.Lease(ctx, "outage", r.config.LeaseTTL)
	if errors.Is(err, state.ErrHeld) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = lease.Release(ctx) }() // it runs out by itself
	if w, err = r.state.Watch(ctx); err != nil || !w.Pending() {
		return err
	}
	// A list that Redis has lost must not make this a repair of nothing.
	if err := r.heal(ctx); errors.Is(err, state.ErrHeld) {
		return nil // soon again
	} else if err != nil {
		return err
	}
	realms, lost, err := r.connected(ctx)
	if err != nil {
		return err
	}
	if len(realms) == 0 {
		return r.nothingDue(ctx, w, len(lost))
	}
	over, err := r.spread(ctx, w)
	if err != nil {
		return err
	}
	for _, realm := range realms {
		if err := r.state.ScheduleIn(ctx, realm, jitter(over)); err != nil {
			return err
		}
	}
	r.log.Warn("possible webhook loss during our outage; scanning every realm",
		telemetry.At(w.Since), telemetry.Count(len(realms)))
	r.metrics.outages.Inc()
	return r.state.Settle(ctx, w.Since)
}

// connected returns the realms that have a record, and those that have lost it.
func (r *Reconciler) connected(ctx context.Context) (realms, lost []string, err error) {
	if lost, err = r.connections.Lost(ctx); err != nil {
		return nil, nil, err
	}
	if realms, err = r.connections.List(ctx); err != nil {
		return nil, nil, err
	}
	return slices.DeleteFunc(realms, func(realm string) bool {
		_, is := slices.BinarySearch(lost, realm)
		return is
	}), lost, nil
}

// nothingDue is for an outage after which no realm can be scanned. Where none was ever
// connected, nothing was lost. Where all records are lost, the outage stays open until one
// is connected again.
func (r *Reconciler) nothingDue(ctx context.Context, w state.Watch, lost int) error {
	if lost == 0 {
		r.log.Debug("outage ignored; no realm is connected", telemetry.At(w.Since))
		return r.state.Settle(ctx, w.Since)
	}
	r.mu.Lock()
	told := r.unrepaired.Equal(w.Since)
	r.unrepaired = w.Since
	r.mu.Unlock()
	if !told {
		r.log.Error("possible webhook loss not repaired: no realm can be scanned, all connection records are lost",
			telemetry.At(w.Since), telemetry.Count(lost))
	}
	return nil
}

// lookAtBroker compares the event stream with how it was when it was last looked at.
func (r *Reconciler) lookAtBroker(ctx context.Context) error {
	// From the look to the note nobody else may look.
	lease, err := r.state.Lease(ctx, "broker", r.config.LeaseTTL)
	if errors.Is(err, state.ErrHeld) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = lease.Release(ctx) }() // it runs out by itself
	before, err := r.state.Position(ctx)
	if err != nil {
		return err
	}
	p, err := r.stream.Position(ctx)
	if err != nil {
		// A broker that is away lets the ingress fall silent, too.
		r.log.Debug("stream position unknown", telemetry.Error(err))
		return nil
	}
	now := r.now()
	if o, lost := loss(before, p, now); lost {
		r.log.Warn("broker lost events", telemetry.Reason(o.Detail), telemetry.At(o.From))
		if err := r.state.AddOutage(ctx, o); err != nil {
			return err
		}
	}
	if !p.Oldest.IsZero() && now.Sub(p.Oldest) > lagSuspect {
		detail := fmt.Sprintf("%d events wait", p.Last-p.First+1)
		if err := r.state.AddOutage(ctx, state.Outage{Kind: state.OutageLag, From: p.Oldest, To: now, Detail: detail}); err != nil {
			return err
		}
	}
	after := state.Position{Created: p.Created.Format(time.RFC3339Nano), Last: p.Last, Lost: p.Lost, Safe: now}
	if !p.Oldest.IsZero() && p.Oldest.Before(now) {
		after.Safe = p.Oldest
	}
	return r.state.SetPosition(ctx, after)
}

// loss says whether the stream lacks what it had, and since when that may be. What
// was removed by hand looks like what was delivered.
func loss(before state.Position, p stream.Position, now time.Time) (state.Outage, bool) {
	o := state.Outage{Kind: state.OutageBroker, From: before.Safe, To: now}
	switch {
	case before.Created == "":
		return o, false
	case before.Created != p.Created.Format(time.RFC3339Nano):
		o.Detail = fmt.Sprintf("stream %s was recreated; the last message of the old one was %d", stream.EventStream, before.Last)
	case p.Last < before.Last:
		o.Detail = fmt.Sprintf("the last message of stream %s is %d and was %d", stream.EventStream, p.Last, before.Last)
		if !p.Newest.IsZero() && p.Newest.After(o.From) {
			o.From = p.Newest // all that is left is older
		}
	case p.Lost > before.Lost:
		o.Detail = fmt.Sprintf("stream %s cannot read %d of its messages", stream.EventStream, p.Lost)
	default:
		return o, false
	}
	if o.From.After(now) || o.From.IsZero() {
		o.From = now
	}
	return o, true
}

package reconciler

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/rendezvous"
	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

var (
	errParked  = errors.New("realm is parked")
	errNoSinks = errors.New("no sink is registered, so nothing can be verified")
	// A deletion shows by the marks alone where CDC does not tell of it: a scan before
	// they are there again would move the cursor past it.
	errForgotten = errors.New("redis may have lost marks, and no processor has restored them yet")
)

// Run scans the connected realms when they are due, and at once where somebody asks
// or an outage of ours may have cost webhooks, and moves the cursors of what was
// delivered. It blocks until ctx ends and everything it started has ended. A server
// that is away is waited for: nothing of it ends Run.
func (r *Reconciler) Run(ctx context.Context) error {
	r.log.Debug("reconciler started")
	r.readClock(ctx)
	defer r.log.Debug("reconciler stopped")
	// A realm that is due and one that an outage makes due is scanned once, so the outage
	// comes first.
	known := make(chan struct{})
	var g errgroup.Group
	g.Go(func() error { return r.watch(ctx, sync.OnceFunc(func() { close(known) })) })
	g.Go(func() error { return r.every(ctx, enrolPolls*r.config.PollInterval, r.enrol()) })
	g.Go(func() error {
		select {
		case <-known:
			return r.work(ctx)
		case <-ctx.Done():
			return nil
		}
	})
	g.Go(func() error { r.members.Run(ctx, r.lead); return nil })
	g.Go(func() error { return r.every(ctx, enrolPolls*r.config.PollInterval, r.boundSchedule) })
	g.Go(func() error { return r.every(ctx, r.config.VerifyEvery, r.verifier.checkAll) })
	g.Go(func() error { return r.every(ctx, heldEvery, r.countHeld) })
	g.Go(func() error { return r.every(ctx, r.config.HealInterval, r.healLater()) })
	return g.Wait()
}

// enrolPolls is how many polls there are between two looks for new and
// reconnected realms.
const enrolPolls = 5

// every calls step at once and then on each tick, and logs what it returns: the
// next tick tries again.
func (r *Reconciler) every(ctx context.Context, d time.Duration, step func(context.Context) error) error {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for {
		if err := step(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("reconciler step failed, will retry", telemetry.Error(err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// enrol returns a step that puts realms on the schedule that are not: new
// connections at once, and those found at the start spread over the jitter; also those
// parked ones that were connected again. What is on it keeps its time, so that a
// restart costs no call: if it took long, it was an outage. Where Redis may have lost the
// schedule, every realm is looked for on it.
func (r *Reconciler) enrol() func(context.Context) error {
	known := map[string]bool{}
	first := true
	var memory state.Memory
	return func(ctx context.Context) error {
		now, err := r.state.Memory(ctx)
		if err != nil {
			return err
		}
		if now != memory {
			clear(known)
		}
		memory = now
		if first {
			if err := r.state.NoteCoverage(ctx, r.coverage(), r.now()); err != nil {
				return err
			}
		}
		realms, err := r.connections.List(ctx)
		if err != nil {
			return fmt.Errorf("list connections: %w", err)
		}
		for _, realm := range realms {
			again, err := r.reconnected(ctx, realm)
			if err != nil {
				return err
			}
			if known[realm] && !again {
				continue
			}
			if err := r.verifier.adopt(ctx, realm); err != nil {
				return err
			}
			if err := r.onSchedule(ctx, realm, again, first); err != nil {
				return err
			}
			known[realm] = true
		}
		first = false
		return nil
	}
}

// onSchedule makes a realm due that is not on the schedule, or was connected again.
func (r *Reconciler) onSchedule(ctx context.Context, realm string, again, first bool) error {
	due, err := r.state.Due(ctx, realm)
	if err != nil || !due.IsZero() && !again {
		return err
	}
	in := time.Duration(0)
	if first {
		in = jitter(r.config.StartJitter)
	}
	return r.state.ScheduleIn(ctx, realm, in)
}

// boundSchedule makes those realms due now that a clock that was ahead has put further
// ahead than any schedule of ours: that of a replica of an older version, or of Redis.
func (r *Reconciler) boundSchedule(ctx context.Context) error {
	if sabotage.On(sabotage.ClockOfReplica) {
		return nil // it is there against clocks of replicas that are wrong
	}
	own, _ := r.shards()
	n, err := r.state.BoundDue(ctx, own, r.longest())
	if n > 0 {
		r.log.Warn("realms due too far ahead; rescheduled to now", telemetry.Count(n))
	}
	return err
}

// longest is how far ahead a realm may be due, or claimed.
func (r *Reconciler) longest() time.Duration {
	return max(r.config.Interval+r.config.StartJitter, r.visibility()+stealAfter) + clockDifference
}

// coverage spells what scans cover.
func (r *Reconciler) coverage() string {
	names := append(slices.Clone(r.config.CDCEntities), r.config.QueryEntities...)
	slices.Sort(names)
	return strings.Join(names, ",")
}

func jitter(most time.Duration) time.Duration {
	if most <= 0 {
		return 0
	}
	return rand.N(most)
}

// reconnected reports whether a realm that was parked is live again.
func (r *Reconciler) reconnected(ctx context.Context, realm string) (bool, error) {
	parked := false
	r.learn(realm, func(known *realmState) { parked = known.parked })
	if !parked {
		return false, nil
	}
	conn, err := r.connections.Get(ctx, realm)
	if errors.Is(err, connection.ErrNotConnected) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return conn.State == connection.Live, nil
}

// work starts scans as long as there is room for them: first those somebody asked for,
// then those that are due. It returns when ctx has ended and so has every scan.
func (r *Reconciler) work(ctx context.Context) error {
	w := &worker{
		r: r, free: make(chan struct{}, r.config.Realms), freed: make(chan struct{}, 1),
		// What people ask for may take hours: the schedule keeps a place.
		jobs: make(chan struct{}, max(1, r.config.Realms-1)),
	}
	defer w.running.Wait()
	tick := time.NewTicker(r.config.PollInterval)
	defer tick.Stop()
	for {
		more, err := w.fill(ctx)
		if err != nil && ctx.Err() == nil {
			r.log.Warn("reconciler step failed, will retry", telemetry.Error(err))
		}
		var freed chan struct{}
		if more {
			freed = w.freed
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-freed:
		}
	}
}

// worker is the places for scans.
type worker struct {
	r       *Reconciler
	running sync.WaitGroup
	free    chan struct{} // holds one for each scan under way
	jobs    chan struct{} // and one for each of those that was asked for
	freed   chan struct{} // a place has become free
}

// fill fills the free places. It reports whether there was more to do than places.
func (w *worker) fill(ctx context.Context) (more bool, err error) {
	if n := min(cap(w.free)-len(w.free), cap(w.jobs)-len(w.jobs)); n > 0 {
		jobs, err := w.r.state.ClaimJobs(ctx, w.r.visibility(), n)
		for _, j := range jobs {
			w.jobs <- struct{}{}
			w.start(func() {
				defer func() { <-w.jobs }()
				w.r.job(ctx, j)
			})
		}
		if err != nil {
			return false, err
		}
	}
	n := cap(w.free) - len(w.free)
	if n < (cap(w.free)+1)/2 {
		return true, nil // some at a time: looking for them costs as much for many as for one
	}
	realms, err := w.r.claim(ctx, n)
	for _, realm := range realms {
		w.start(func() { w.r.due(ctx, realm) })
	}
	return len(realms) == n, err
}

func (w *worker) start(scan func()) {
	w.free <- struct{}{}
	w.running.Go(func() {
		defer func() {
			<-w.free
			select {
			case w.freed <- struct{}{}:
			default: // somebody has said so already
			}
		}()
		scan()
	})
}

// stealAfter is how long a realm is overdue before a replica takes it that does not
// lead its shard: who leads it is full, or cannot work.
const stealAfter = 2 * time.Minute

// claim takes due realms: of the shards this replica leads first, so that each has
// its share. Claims and leases keep replicas apart, whoever leads.
func (r *Reconciler) claim(ctx context.Context, n int) ([]string, error) {
	own, others := r.shards()
	realms, err := r.state.ClaimDue(ctx, own, 0, r.visibility(), n)
	if err != nil || len(others) == 0 || len(realms) == n {
		return realms, err
	}
	stolen, err := r.state.ClaimDue(ctx, others, stealAfter, r.visibility(), n-len(realms))
	return append(realms, stolen...), err
}

// shards are the parts of the schedule that this replica leads, and the others. It
// leads all until it knows of the other replicas.
func (r *Reconciler) shards() (own, others []int) {
	r.mu.Lock()
	leaders := r.leaders
	r.mu.Unlock()
	for shard := range state.Shards {
		if leaders == nil || leaders[shard] == r.members.ID() {
			own = append(own, shard)
		} else {
			others = append(others, shard)
		}
	}
	return own, others
}

// lead takes note of who leads which shard.
func (r *Reconciler) lead(replicas []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leaders = rendezvous.Leaders(replicas, state.Shards)
}

// visibility is how long a claim lasts when its holder dies; a scan under way
// prolongs it with its lease.
func (r *Reconciler) visibility() time.Duration { return r.config.LeaseTTL * 3 / 2 }

// due scans a claimed realm, unless it rests, and says when it is due next.
func (r *Reconciler) due(ctx context.Context, realm string) {
	in, err := r.dueNext(ctx, realm)
	if ctx.Err() != nil {
		return // the claim runs out and another replica, or the next start, goes on
	}
	if r.erased(ctx, realm) {
		if err := r.state.Done(ctx, realm, -1); err != nil {
			r.log.Warn("erased realm still on the schedule", telemetry.Realm(realm), telemetry.Error(err))
		}
		return
	}
	if err != nil {
		r.log.Warn("realm not scanned", telemetry.Realm(realm), telemetry.Error(err))
	}
	if err := r.state.Done(ctx, realm, min(max(in, 0), r.longest())); err != nil {
		r.log.Warn("scan end not recorded; its claim will expire", telemetry.Realm(realm), telemetry.Error(err))
	}
}

func (r *Reconciler) dueNext(ctx context.Context, realm string) (time.Duration, error) {
	soon := min(r.config.Interval, r.config.RetryInterval)
	if r.erased(ctx, realm) {
		return soon, nil
	}
	r.readClock(ctx)
	x, err := r.occasion(ctx, realm)
	if err != nil {
		return soon, err
	}
	until, err := r.rests(ctx, realm, x)
	if err != nil {
		return soon, err
	}
	if !until.IsZero() {
		return until.Sub(r.now()), nil
	}
	again, err := r.retries(ctx, realm, x)
	if err != nil {
		return soon, err
	}
	var out outcome
	switch {
	case x.pace.Scanned.IsZero():
		out = r.firstLoad(ctx, realm)
	case len(again) > 0:
		out = r.scan(ctx, realm, order{grace: r.config.Grace, entities: again, again: true})
	default:
		out = r.scan(ctx, realm, order{grace: r.config.Grace})
	}
	return r.next(ctx, realm, out), nil
}

// erased reports whether nothing may be kept of the realm any more: it is on no schedule,
// and what was asked for is dropped.
func (r *Reconciler) erased(ctx context.Context, realm string) bool {
	_, err := r.connections.Known(ctx, realm)
	return errors.Is(err, connection.ErrErased)
}

// demand scans a realm because somebody asked, and waits for whoever scans it.
func (r *Reconciler) demand(ctx context.Context, realm string, q Request) outcome {
	o := order{
		grace: q.Grace, entities: q.Entities, load: q.Load, everything: true, republish: true, wait: q.Wait, atRest: q.Grace == 0,
	}
	if q.Progress != nil {
		o.progress = func(p state.JobProgress, _ bool) { q.Progress(realm, p) }
	}
	return r.patient(ctx, realm, o)
}

// patient scans a realm, after whoever scans it now.
func (r *Reconciler) patient(ctx context.Context, realm string, o order) outcome {
	for {
		out := r.scan(ctx, realm, o)
		if !errors.Is(out.err, state.ErrHeld) {
			return out
		}
		if err := lifecycle.Sleep(ctx, leasePoll); err != nil {
			return outcome{err: fmt.Errorf("wait for another scan of the realm: %w", err)}
		}
	}
}

const leasePoll = 100 * time.Millisecond

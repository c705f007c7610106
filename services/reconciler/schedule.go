package reconciler

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/rendezvous"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

var (
	errParked  = errors.New("realm is parked: its authorisation has lapsed")
	errNoSinks = errors.New("no sink is registered, so nothing can be verified")
)

// Run scans every connected realm soon after the start and then once an
// interval, and moves the cursors of what was delivered. It blocks until ctx
// ends and everything it started has ended. A server that is away is waited
// for: nothing of it ends Run.
func (r *Reconciler) Run(ctx context.Context) error {
	r.log.Debug("reconciler started")
	defer r.log.Debug("reconciler stopped")
	var g errgroup.Group
	g.Go(func() error { return r.every(ctx, enrolPolls*r.config.PollInterval, r.enrol()) })
	g.Go(func() error { return r.work(ctx) })
	g.Go(func() error { r.members.Run(ctx, r.lead); return nil })
	g.Go(func() error { return r.every(ctx, r.config.VerifyEvery, r.verifier.checkAll) })
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
			r.log.Warn("reconciler step failed, it is tried again", telemetry.Error(err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// enrol returns a step that makes realms due that this process has not seen
// before, and those parked ones that were connected again. The realms found at
// the start are spread over the jitter; a new connection is due at once.
func (r *Reconciler) enrol() func(context.Context) error {
	known := map[string]bool{}
	first := true
	return func(ctx context.Context) error {
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
			at := r.now()
			if first {
				at = at.Add(jitter(r.config.StartJitter))
				r.learn(realm, func(known *realmState) { known.starting = true })
			}
			if err := r.verifier.adopt(ctx, realm); err != nil {
				return err
			}
			if err := r.state.Schedule(ctx, realm, at); err != nil {
				return err
			}
			known[realm] = true
		}
		first = false
		return nil
	}
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

// work claims due realms and scans them, at most Realms at a time. It returns
// when ctx has ended and so has every scan.
func (r *Reconciler) work(ctx context.Context) error {
	var scans sync.WaitGroup
	defer scans.Wait()
	free := make(chan struct{}, r.config.Realms)
	return r.every(ctx, r.config.PollInterval, func(ctx context.Context) error {
		n := cap(free) - len(free)
		if n == 0 {
			return nil
		}
		realms, err := r.claim(ctx, n)
		for _, realm := range realms {
			free <- struct{}{}
			scans.Go(func() {
				defer func() { <-free }()
				r.due(ctx, realm)
			})
		}
		return err
	})
}

// stealAfter is how long a realm is overdue before a replica takes it that does not
// lead its shard: who leads it is full, or cannot work.
const stealAfter = 2 * time.Minute

// claim takes due realms: of the shards this replica leads first, so that each has
// its share. Claims and leases keep replicas apart, whoever leads.
func (r *Reconciler) claim(ctx context.Context, n int) ([]string, error) {
	own, others := r.shards()
	realms, err := r.state.ClaimDue(ctx, own, r.now(), r.visibility(), n)
	if err != nil || len(others) == 0 || len(realms) == n {
		return realms, err
	}
	stolen, err := r.state.ClaimDue(ctx, others, r.now().Add(-stealAfter), r.visibility()+stealAfter, n-len(realms))
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
func (r *Reconciler) visibility() time.Duration { return 2 * r.config.LeaseTTL }

// due scans a claimed realm and says when it is due next.
func (r *Reconciler) due(ctx context.Context, realm string) {
	o := order{grace: r.config.Grace}
	r.learn(realm, func(known *realmState) { o.start, known.starting = known.starting, false })
	out := r.scan(ctx, realm, o)
	if ctx.Err() != nil {
		return // the claim runs out and another replica, or the next start, goes on
	}
	next := r.config.Interval
	switch {
	case out.err == nil, errors.Is(out.err, errParked):
	case errors.Is(out.err, state.ErrHeld):
		next = min(next, r.config.LeaseTTL)
	default:
		next = min(next, r.config.RetryInterval)
	}
	if err := r.state.Done(ctx, realm, r.now().Add(next)); err != nil {
		r.log.Warn("end of a scan not noted, its claim will run out", telemetry.Realm(realm), telemetry.Error(err))
	}
}

// demand scans a realm because somebody asked, and waits for whoever scans it.
func (r *Reconciler) demand(ctx context.Context, realm string, q Request) outcome {
	o := order{grace: q.Grace, everything: true, republish: true, wait: q.Wait, atRest: q.Grace == 0}
	for {
		out := r.scan(ctx, realm, o)
		if !errors.Is(out.err, state.ErrHeld) {
			return out
		}
		if err := pause(ctx, leasePoll); err != nil {
			return outcome{err: fmt.Errorf("wait for another scan of the realm: %w", err)}
		}
	}
}

const leasePoll = 100 * time.Millisecond

package telemetry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// ReadinessOptions is what [NewReadiness] needs; Check is required.
type ReadinessOptions struct {
	// Check says why the service cannot work now.
	Check func(ctx context.Context) error
	// Every is the time between two checks, and the longest one may take is twice
	// that; 0 is a second.
	Every time.Duration
	// Failures in a row make the service not ready, Successes in a row ready again;
	// 0 is 3 and 2. The first check alone decides on the first state.
	Failures, Successes int
}

// Readiness checks in the background whether the service can work, and changes
// its mind only after several checks in a row: a broker that elects a leader for
// a second must not have every replica taken out of the load balancer at once.
type Readiness struct {
	o ReadinessOptions

	mu     sync.Mutex // guards what follows
	reason error      // nil: ready
	since  time.Time
	run    int // how many checks in a row contradict the state
}

var errStarting = errors.New("starting: not checked yet")

// NewReadiness is not ready until Run has checked once.
func NewReadiness(o ReadinessOptions) *Readiness {
	if o.Every == 0 {
		o.Every = time.Second
	}
	if o.Failures == 0 {
		o.Failures = 3
	}
	if o.Successes == 0 {
		o.Successes = 2
	}
	return &Readiness{o: o, reason: errStarting, since: time.Now()}
}

// Run checks until ctx ends.
func (r *Readiness) Run(ctx context.Context) error {
	tick := time.NewTicker(r.o.Every)
	defer tick.Stop()
	for {
		within, done := context.WithTimeout(ctx, 2*r.o.Every)
		err := r.o.Check(within)
		done()
		if ctx.Err() != nil {
			return nil
		}
		r.note(err)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Ready is nil, or why the service is not ready and since when. It never blocks.
func (r *Readiness) Ready(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reason == nil {
		return nil
	}
	return fmt.Errorf("%w (not ready for %s)", r.reason, time.Since(r.since).Round(time.Second))
}

func (r *Readiness) note(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case errors.Is(r.reason, errStarting):
		r.change(err)
	case (err == nil) == (r.reason == nil):
		r.run = 0
		if err != nil {
			r.reason = err // the newest reason says most
		}
	default:
		r.run++
		if err != nil && r.run >= r.o.Failures || err == nil && r.run >= r.o.Successes {
			r.change(err)
		}
	}
}

func (r *Readiness) change(reason error) {
	r.reason, r.since, r.run = reason, time.Now(), 0
}

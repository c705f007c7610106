package reconciler

import (
	"context"
	"sync"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// sharedClock is Redis's clock, as it was last read, and the time that has passed since
// by our own. All replicas have the same, and one whose clock is wrong, or jumps, has
// it too: the time that passes is measured monotonically.
type sharedClock struct {
	own func() time.Time

	mu   sync.Mutex // guards the rest
	at   time.Time  // by own, when it was read; zero: never
	read time.Time
}

// now is our own clock until Redis's was read once.
func (c *sharedClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	own := c.own()
	if c.at.IsZero() {
		return own
	}
	return c.read.Add(own.Sub(c.at))
}

func (c *sharedClock) set(at, read time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at, c.read = at, read
}

// readClock reads Redis's clock. While Redis does not answer, the clock goes on from
// where it was: nothing can be written down then anyway.
func (r *Reconciler) readClock(ctx context.Context) {
	at := r.clock.own()
	read, err := r.state.Now(ctx)
	if err != nil {
		r.log.Debug("clock not read", telemetry.Error(err))
		return
	}
	r.clock.set(at, read)
}

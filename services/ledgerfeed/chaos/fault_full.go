package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

// fullFaults are streams that have no room.
func fullFaults() []fault {
	return []fault{
		{name: "retry-full", group: "endpoint", least: 4 * time.Second, most: 8 * time.Second, weight: 2, effects: effects{fills: true}, begin: fillRetries},
		{name: "dead-full", group: "dead", least: 3 * time.Second, most: 8 * time.Second, weight: 1, effects: effects{fills: true}, begin: fillDead},
	}
}

// What fills a stream has a subject that nobody consumes.
const (
	fillerRetry = "lf.retry.filler.00.chaos"
	fillerDead  = "lf.dead.filler.chaos"
)

// stuff fills a stream: with large messages, then with small ones for what is left.
func (c *cluster) stuff(ctx context.Context, subject string, bytes int) error {
	const large, small = 64 << 10, 1 << 10
	for range bytes/large + 2 {
		if err := c.send(ctx, subject, strings.Repeat("x", large)); err != nil {
			return err
		}
	}
	for range large/small + 8 {
		if err := c.send(ctx, subject, strings.Repeat("x", small)); err != nil {
			return err
		}
	}
	return nil
}

// unstuff makes room again.
func (c *cluster) unstuff(ctx context.Context) error {
	for name, subject := range map[string]string{stream.RetryStream: fillerRetry, stream.DeadStream: fillerDead} {
		if err := c.purge(ctx, name, subject); err != nil {
			return err
		}
	}
	return nil
}

// fillRetries leaves the retry stream no room while the endpoint takes nothing: what it
// lacks stays with the scans, and nobody else waits for that.
func fillRetries(ctx context.Context, r *run, _ *rand.Rand) (func(context.Context) error, string, error) {
	calm := r.calm()
	if err := r.plant.cluster.stuff(ctx, fillerRetry, retryBytes); err != nil {
		return nil, "", err
	}
	r.plant.endpoint.set(failing)
	return func(ctx context.Context) error {
		if calm > 0 && calm == r.calm() {
			r.judgeFull(ctx)
		}
		r.plant.endpoint.set(willing)
		return until(ctx, r.plant.cluster.unstuff)
	}, fmt.Sprintf("quiet otherwise: %t", calm > 0), nil
}

const (
	// fewEvents is how many messages may be on their way while a stream is full and
	// nothing else is wrong.
	fewEvents = 40
	fewWithin = 10 * time.Second
)

// judgeFull looks whether what a full stream does not take stays on the event stream
// (I9): then it would fill that too, and stop everybody.
func (r *run) judgeFull(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, fewWithin)
	defer cancel()
	for {
		lag, err := r.plant.conn.Lag(ctx, stream.Events, "processor")
		if err == nil && lag.Stored <= fewEvents {
			return
		}
		if lifecycle.Sleep(ctx, poll) == nil {
			continue
		}
		if err == nil {
			r.mu.Lock()
			r.stuck = append(r.stuck, fmt.Sprintf("%d messages stay on the event stream while the retry stream is full", lag.Stored))
			r.mu.Unlock()
		}
		return
	}
}

// fillDead leaves the dead letters no room.
func fillDead(ctx context.Context, r *run, _ *rand.Rand) (func(context.Context) error, string, error) {
	if err := r.plant.cluster.stuff(ctx, fillerDead, deadBytes); err != nil {
		return nil, "", err
	}
	return func(ctx context.Context) error { return until(ctx, r.plant.cluster.unstuff) }, "", nil
}

package state

import (
	"cmp"
	"context"
	"crypto/rand"
	_ "embed"
	"fmt"
	mrand "math/rand/v2"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
)

// LimitConfig bounds the calls to Intuit about one realm, over all replicas.
// Intuit allows 500 a minute and 10 at a time (in its newer wording 10 a
// second), see "Limits and throttles" in its documentation; what is left is for
// calls that Intuit sees closer together than they were made.
type LimitConfig struct {
	// PerMinute is the sustained rate. At most PerMinute+Burst calls start in
	// any 60 seconds.
	PerMinute int
	// Burst is how many calls may start at once after a pause.
	Burst int
	// PerSecond bounds any one second. Zero is [DefaultLimits]' for a PerMinute
	// that it can carry, no such bound for a higher one.
	PerSecond int
	// Concurrency is how many calls may be under way.
	Concurrency int
	// Hold is how long a call counts as under way if it is never released, since
	// its process died. It must be longer than any call takes.
	Hold time.Duration
}

// DefaultLimits keeps a tenth of what Intuit allows in hand. Intuit ends a
// request after 120 s.
func DefaultLimits() LimitConfig {
	return LimitConfig{PerMinute: 450, Burst: 10, PerSecond: 8, Concurrency: 8, Hold: 130 * time.Second}
}

func (c LimitConfig) withDefaults() LimitConfig {
	d := DefaultLimits()
	c.PerMinute = cmp.Or(max(c.PerMinute, 0), d.PerMinute)
	c.Burst = cmp.Or(max(c.Burst, 0), d.Burst)
	c.Concurrency = cmp.Or(max(c.Concurrency, 0), d.Concurrency)
	c.Hold = cmp.Or(max(c.Hold, 0), d.Hold)
	if c.PerSecond <= 0 && c.PerMinute <= 60*d.PerSecond {
		c.PerSecond = d.PerSecond
	}
	c.PerSecond = max(c.PerSecond, 0)
	return c
}

const (
	// maxPenalty bounds the penalty box: an odd Retry-After must not park a realm
	// for days. A longer one is learned again from the next 429.
	maxPenalty = time.Hour
	// maxNap bounds a wait before asking again, and with it how long the note of
	// a waiting call outlives its process.
	maxNap = 5 * time.Second
	// maxAging is how long a backfill gives way to live calls.
	maxAging       = 15 * time.Second
	releaseTimeout = time.Second
	// renewEvery is how often a call that is under way notes itself, and one that is over
	// is taken back until Redis answers.
	renewEvery = 300 * time.Millisecond
)

var (
	//go:embed acquire.lua
	acquireLua    string
	acquireScript = redis.NewScript(acquireLua)
	//go:embed penalize.lua
	penalizeLua    string
	penalizeScript = redis.NewScript(penalizeLua)
)

// Limiter bounds the calls about each realm over all replicas that share the
// Redis. It goes by Redis's clock. It implements [qbo.Limiter].
//
// A realm nobody called of late starts with a full burst; so does every realm
// when Redis has lost its data, but calls under way are noted again: each that takes
// longer than 300 ms, as often. Another Redis process, after a restart or a failover, grants
// nothing for two seconds, so that they are all there. While Redis does not answer there
// are no calls: a limit that nobody counts is none. What is not seen is a Redis that is
// emptied while it runs (FLUSHALL): for 300 ms it may grant too many.
type Limiter struct {
	store  *Store
	config LimitConfig
	budget *Budget       // nil for none
	aging  time.Duration // after which a backfill goes as a live call
}

// Limiter makes a limiter. Zero fields of c are those of [DefaultLimits]. All
// replicas must have the same settings.
func (s *Store) Limiter(c LimitConfig) *Limiter {
	return &Limiter{store: s, config: c.withDefaults(), aging: maxAging}
}

// Within makes the limiter refuse what the budget does not allow.
func (l *Limiter) Within(b *Budget) *Limiter {
	l.budget = b
	return l
}

// Acquire waits until a call about realm may start, or ctx ends. Call release
// when the call is over: it is safe twice and from any goroutine. It waits for Redis two
// seconds at most, whereupon the call counts until Redis is there again.
//
// Live calls go first, in about the order they came. A backfill takes its turn
// when no live call waits, and leaves a slot and half the burst free. Under live
// calls that use the whole rate it goes as one of them once it has waited for
// fifteen seconds: a company that never rests is scanned, too.
func (l *Limiter) Acquire(ctx context.Context, realm string, p qbo.Priority) (release func(), err error) {
	if l.budget != nil {
		if err := l.budget.Allow(ctx, p); err != nil {
			return nil, fmt.Errorf("acquire a call of realm %s: %w", realm, err)
		}
	}
	id, asked := rand.Text(), time.Now()
	realm += sabotage.Apart(sabotage.LimiterApart)
	for {
		if p != qbo.Live && time.Since(asked) > l.aging {
			p = qbo.Live
		}
		wait, err := l.store.servers.quiet(), error(nil)
		if wait == 0 {
			wait, err = l.try(ctx, realm, p, id)
		}
		switch {
		case err != nil:
			// The script may have run and only its answer be lost, or run yet.
			l.hold(ctx, realm, id).giveBack(true)
			return nil, fmt.Errorf("acquire a call of realm %s: %w", realm, err)
		case wait == 0 && l.store.servers.quiet() > 0:
			// It was by this call that we met the server.
			l.hold(ctx, realm, id).giveBack(false)
			id = rand.Text()
			continue
		case wait == 0:
			h := l.hold(ctx, realm, id)
			return sync.OnceFunc(func() { h.giveBack(false) }), nil
		}
		if err := lifecycle.Sleep(ctx, jitter(wait)); err != nil {
			l.hold(ctx, realm, id).giveBack(false)
			return nil, fmt.Errorf("wait for a call of realm %s: %w", realm, err)
		}
	}
}

// try asks once: 0 means go, anything else how long to wait before asking again.
func (l *Limiter) try(ctx context.Context, realm string, p qbo.Priority, id string) (time.Duration, error) {
	ctx, cancel := l.store.bound(ctx)
	defer cancel()
	class := "live"
	if p != qbo.Live {
		class = "backfill"
	}
	c := l.config
	wait, err := acquireScript.Run(ctx, l.store.db, limitKeys(realm), id, class,
		(time.Minute / time.Duration(c.PerMinute)).Microseconds(), c.Burst, c.PerSecond,
		c.Concurrency, c.Hold.Microseconds(), maxNap.Microseconds(), maxPenalty.Microseconds(),
	).Int64()
	return time.Duration(wait) * time.Microsecond, err
}

// Penalize stops all calls about realm for d, at most an hour, because Intuit
// answered 429. A longer penalty under way stays.
func (l *Limiter) Penalize(ctx context.Context, realm string, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	ctx, cancel := l.store.bound(ctx)
	defer cancel()
	err := penalizeScript.Run(ctx, l.store.db, limitKeys(realm)[:1], min(d, maxPenalty).Microseconds()).Err()
	if err != nil {
		return fmt.Errorf("penalize realm %s: %w", realm, err)
	}
	return nil
}

func limitKeys(realm string) []string {
	return []string{
		ephemeralKey("limit", realm), ephemeralKey("slot", realm),
		ephemeralKey("wait", realm), ephemeralKey("recent", realm),
	}
}

// jitter adds up to a tenth, 20 ms at most: several replicas told the same time
// do not come back at the same time. It never takes away.
func jitter(d time.Duration) time.Duration {
	return d + mrand.N(min(d/10, 20*time.Millisecond)+time.Microsecond)
}

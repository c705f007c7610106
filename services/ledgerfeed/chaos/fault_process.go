package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"
)

// processFaults are what happens to processes: killed and started again, stopped
// for longer than their leases and AckWait, asked to end one after the other.
func processFaults() []fault {
	var all []fault
	for _, kind := range services {
		all = append(all,
			fault{name: "kill-" + kind, group: kind, kills: 1, least: 0, most: 3 * time.Second, weight: 3, effects: effects{repeats: true}, begin: killOne(kind)},
			fault{name: "pause-" + kind, group: kind, least: ackWait + time.Second, most: ackWait + 4*time.Second, weight: 2, effects: effects{repeats: true}, begin: pauseOne(kind)},
			fault{name: "restart-" + kind, group: kind, least: 0, most: time.Second, weight: 2, begin: rollingRestart(kind)},
		)
	}
	return append(all,
		fault{name: "kill-broker", group: "broker", kills: 1, least: 0, most: 5 * time.Second, weight: 3, effects: effects{repeats: true}, begin: killBroker},
		fault{name: "pause-broker", group: "broker", least: 3 * time.Second, most: 7 * time.Second, weight: 2, effects: effects{repeats: true}, begin: pauseBroker},
		fault{name: "kill-redis", group: "redis", kills: 1, least: 0, most: 3 * time.Second, weight: 2, redis: anyMaster, effects: effects{repeats: true}, begin: killRedis},
		fault{name: "pause-redis", group: "redis", least: 3 * time.Second, most: 7 * time.Second, weight: 1, redis: anyMaster, effects: effects{repeats: true}, begin: pauseRedis},
		fault{name: "kill-postgres", group: "postgres", kills: 1, least: 0, most: 4 * time.Second, weight: 2, effects: effects{repeats: true}, begin: killPostgres},
		fault{name: "clock-skew", group: "processor", least: time.Second, most: 2 * time.Second, weight: 1, begin: skewOne},
	)
}

type beginning = func(context.Context, *run, *rand.Rand) (func(context.Context) error, string, error)

func killed(p *process) (func(context.Context) error, string, error) {
	p.kill()
	return func(context.Context) error { p.up(); return nil }, p.name, nil
}

func paused(p *process) (func(context.Context) error, string, error) {
	if err := p.pause(); err != nil {
		return nil, p.name, err
	}
	return func(context.Context) error { _ = p.resume(); return nil }, p.name, nil // it may have been ended meanwhile
}

func killOne(kind string) beginning {
	return func(_ context.Context, r *run, rng *rand.Rand) (func(context.Context) error, string, error) {
		return killed(choose(rng, r.plant.services[kind]).process)
	}
}

func pauseOne(kind string) beginning {
	return func(_ context.Context, r *run, rng *rand.Rand) (func(context.Context) error, string, error) {
		return paused(choose(rng, r.plant.services[kind]).process)
	}
}

// rollingRestart asks each replica to end, and starts it again before the next. One
// that does not end well though nothing else was wrong meanwhile breaks I13.
func rollingRestart(kind string) beginning {
	return func(_ context.Context, r *run, _ *rand.Rand) (func(context.Context) error, string, error) {
		for _, one := range r.plant.services[kind] {
			was, calm := one.pid(), r.calm()
			inTime := one.down(syscall.SIGTERM, drainWait)
			if was != 0 && (!inTime || !one.endedWell()) && calm > 0 && calm == r.calm() {
				r.badEnd(one.name)
			}
			one.up()
		}
		return nothing, "all", nil
	}
}

func killBroker(_ context.Context, r *run, rng *rand.Rand) (func(context.Context) error, string, error) {
	return killed(choose(rng, r.plant.cluster.members))
}

func pauseBroker(_ context.Context, r *run, rng *rand.Rand) (func(context.Context) error, string, error) {
	return paused(choose(rng, r.plant.cluster.members))
}

func killRedis(_ context.Context, r *run, rng *rand.Rand) (func(context.Context) error, string, error) {
	return killed(choose(rng, r.plant.cache.nodes).process)
}

func pauseRedis(_ context.Context, r *run, rng *rand.Rand) (func(context.Context) error, string, error) {
	return paused(choose(rng, r.plant.cache.nodes).process)
}

func killPostgres(_ context.Context, r *run, _ *rand.Rand) (func(context.Context) error, string, error) {
	return killed(r.plant.database.now().process)
}

// skewOne starts a replica again with a clock that is wrong by up to ten minutes,
// for the rest of the run.
func skewOne(_ context.Context, r *run, rng *rand.Rand) (func(context.Context) error, string, error) {
	kind := choose(rng, []string{"processor", "reconciler"})
	one := choose(rng, r.plant.services[kind])
	skew := time.Duration(rng.IntN(1200)-600) * time.Second
	one.setSkew(skew)
	one.down(syscall.SIGTERM, drainWait)
	one.up()
	return nothing, fmt.Sprintf("%s by %s", one.name, skew), nil
}

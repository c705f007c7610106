package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	store "github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// redisFaults are what others do to the keys in Redis.
func redisFaults() []fault {
	return []fault{
		{name: "redis-evict", group: "redis", least: 4 * time.Second, most: 8 * time.Second, weight: 1, redis: oneRedis, effects: effects{repeats: true, forgets: true, lapses: true}, begin: evictKeys},
		{name: "redis-keys", group: "redis", least: 0, most: time.Second, weight: 2, effects: effects{repeats: true}, begin: deleteKeys},
		{name: "redis-failover", group: "redis", kills: 1, least: time.Second, most: 4 * time.Second, weight: 3, redis: redisSentinel, effects: effects{repeats: true, forgets: true, lapses: true}, begin: failRedisOver},
	}
}

// The kinds of Redis that have one server, and those that wait for a master that is away.
const (
	oneRedis  = redisSingle + " " + redisSecured
	anyMaster = oneRedis + " " + redisCluster
)

// failoverWait bounds how long the Sentinel may take, and before that the replica that was
// the master, which the Sentinel has follow some ten seconds after it is back.
const failoverWait = 40 * time.Second

// failRedisOver kills the master and leaves its replica, to which the last writes may not
// have come, to the Sentinel. The old master follows the new one afterwards. A company whose
// new token was among those writes is connected again, see attend.
func failRedisOver(ctx context.Context, r *run, _ *rand.Rand) (func(context.Context) error, string, error) {
	c := r.plant.cache
	within, cancel := context.WithTimeout(ctx, failoverWait)
	defer cancel()
	if err := c.replicated(within); err != nil { // after the one before
		return nil, "", err
	}
	old, err := c.master(within)
	if err != nil {
		return nil, "", err
	}
	r.cursors.watch(false)
	node := c.nodes[old]
	node.process.kill()
	end := func(context.Context) error {
		node.process.up()
		r.cursors.watch(true)
		return nil
	}
	err = until(within, func(ctx context.Context) error {
		now, err := c.master(ctx)
		if err == nil && now == old {
			err = errors.New("the Sentinel keeps the old master")
		}
		return err
	})
	if err != nil {
		return nil, "", errors.Join(err, end(context.WithoutCancel(ctx)))
	}
	return end, node.process.name, nil
}

const (
	// evictShare is the part of the data that must go.
	evictShare = 0.4
	evictWait  = 5 * time.Second
)

// evictKeys has a Redis with allkeys-lru run out of memory. Afterwards a person turns the
// eviction off, connects all companies again and has everything loaded, as the runbook
// says.
func evictKeys(ctx context.Context, r *run, rng *rand.Rand) (func(context.Context) error, string, error) {
	c := r.plant.cache
	before, err := c.evicted(ctx)
	if err != nil {
		return nil, "", err
	}
	end := func(ctx context.Context) error {
		err := until(ctx, func(ctx context.Context) error {
			return c.configure(ctx, "maxmemory", "0", "maxmemory-policy", "noeviction")
		})
		if err == nil {
			err = r.reconnect(ctx)
		}
		if err == nil {
			err = r.rewindAll(ctx, time.Time{})
		}
		r.cursors.watch(true)
		return err
	}
	r.cursors.watch(false)
	if err := c.press(ctx, evictShare); err != nil {
		return nil, "", errors.Join(err, end(context.WithoutCancel(ctx)))
	}
	for wait := time.Now().Add(evictWait); ; {
		n, err := c.evicted(ctx)
		if err == nil && n > before {
			break
		}
		if lifecycle.Sleep(ctx, poll) != nil || time.Now().After(wait) {
			return nil, "", errors.Join(errors.New("no key is evicted"), err, end(context.WithoutCancel(ctx)))
		}
	}
	one := choose(rng, append(r.plant.services["processor"], r.plant.services["reconciler"]...))
	r.expectReport(ctx, one, "maxmemory-policy is allkeys-lru")
	after, _ := c.evicted(ctx)
	return end, fmt.Sprintf("%d keys evicted so far", after-before), nil
}

// press leaves a Redis less memory than it needs for that share of its data.
func (c *cache) press(ctx context.Context, share float64) error {
	info, err := c.store.Redis().Info(ctx, "memory").Result()
	if err != nil {
		return err
	}
	used, data := infoNumber(info, "used_memory"), infoNumber(info, "used_memory_dataset")
	return c.configure(ctx, "maxmemory-policy", "allkeys-lru", "maxmemory-samples", "10", "maxmemory", strconv.Itoa(used-int(share*float64(data))))
}

func (c *cache) configure(ctx context.Context, pairs ...string) error {
	for i := 0; i < len(pairs); i += 2 {
		if err := c.store.Redis().ConfigSet(ctx, pairs[i], pairs[i+1]).Err(); err != nil {
			return err
		}
	}
	return nil
}

// evicted is how many keys have gone since Redis was started.
func (c *cache) evicted(ctx context.Context) (int, error) {
	info, err := c.store.Redis().Info(ctx, "stats").Result()
	return infoNumber(info, "evicted_keys"), err
}

func infoNumber(info, name string) int {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(value)) // 0: it does not say
			return n
		}
	}
	return 0
}

// deleteKeys deletes single keys by hand. Without the record of a connection its company
// would have to be connected again, and what must be looked at once more (lf:1:follow) is
// known to nobody else; all others come back by themselves.
func deleteKeys(ctx context.Context, r *run, rng *rand.Rand) (func(context.Context) error, string, error) {
	realm := choose(rng, r.plant.realms)
	var schedule []string
	for shard := range store.Shards {
		for _, kind := range []string{"due", "claim", "again"} {
			schedule = append(schedule, fmt.Sprintf("lf:1:%s:{shard-%02d}", kind, shard))
		}
	}
	kinds := map[string][]string{
		"the list of companies": {"lf:1:realms"},
		"the schedule":          schedule,
		"cursors":               {store.Key("cur", realm)},
		"saved scans":           {store.Key("scan", realm), store.Key("pace", realm)},
		"the sinks":             {"lf:1:sinks", "lf:1:registered:{lf:1:sinks}"},
		// Only marks tell of deletions that CDC leaves out: those stay.
		"marks": {markOf(realm, choose(rng, []string{sinkTable, sinkPost}), choose(rng, []string{"Invoice", "Customer", "Payment"}))},
	}
	names := []string{"the list of companies", "the schedule", "cursors", "saved scans", "the sinks", "marks"}
	rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	names = names[:1+rng.IntN(4)]
	r.cursors.watch(false)
	defer r.cursors.watch(true)
	for _, name := range names {
		err := until(ctx, func(ctx context.Context) error {
			for _, key := range kinds[name] { // each by itself: those of a cluster are apart
				if err := r.plant.state.Redis().Del(ctx, key).Err(); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return nil, "", err
		}
	}
	return nothing, strings.Join(names, ", ") + " of " + realm, nil
}

// markOf is the key of the marks of an entity.
func markOf(realm, sink, entity string) string {
	return store.Key("mark", realm) + ":" + sink + ":" + entity
}

// rewindAll moves the cursors of all companies back to a time by Intuit's clock; the zero
// time forgets them, so that everything is loaded.
func (r *run) rewindAll(ctx context.Context, to time.Time) error {
	for _, realm := range r.plant.realms {
		err := until(ctx, func(ctx context.Context) error { return r.plant.state.RewindCursors(ctx, realm, nil, to) })
		if err == nil {
			err = until(ctx, func(ctx context.Context) error { return r.plant.state.ScheduleIn(ctx, realm, 0) })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// healWait is how long the list of companies and the schedule may take to be whole again:
// some intervals of the reconciler.
const healWait = 20 * time.Second

// awaitHealed waits until each company is on the list and on the schedule again.
func (r *run) awaitHealed(ctx context.Context) {
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), healWait) // settling may have used its time up
	defer cancel()
	err := until(within, func(ctx context.Context) error {
		listed, err := r.plant.connections.List(ctx)
		if err != nil {
			return err
		}
		scheduled, err := r.plant.state.Scheduled(ctx)
		if err != nil {
			return err
		}
		for _, realm := range r.plant.realms {
			if !slices.Contains(listed, realm) || !scheduled[realm] {
				return fmt.Errorf("company %s is on the list: %t, on the schedule: %t", realm, slices.Contains(listed, realm), scheduled[realm])
			}
		}
		return nil
	})
	if err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.unhealed = append(r.unhealed, err.Error())
	}
}

package chaos

import (
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

func named(names ...string) []fault { return Options{Faults: names}.faults() }

// Each fault can be made with the Redis that is drawn, if there is one with which all can.
func TestRedis_FitsTheFaults(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 0))
		require.Equal(t, redisSentinel, drawRedis(rng, named("redis-failover", "kill-processor")))
		require.Contains(t, oneRedis, drawRedis(rng, named("redis-old", "kill-redis")))
		require.NotEqual(t, redisSentinel, drawRedis(rng, named("kill-redis")))
	}
}

func TestRedis_EachKindIsDrawn(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(50) {
		seen[DefaultOptions().redisKind(seed)] = true
	}
	for _, kind := range RedisKinds() {
		require.True(t, seen[kind], kind)
	}
	require.Equal(t, redisSingle, Options{Mutant: "ack-before-mark"}.redisKind(1))
}

func TestOptions_NameAFaultThatRedisCannotHave(t *testing.T) {
	o := DefaultOptions()
	o.Redis, o.Faults = redisCluster, []string{"redis-old"}
	require.ErrorContains(t, o.Validate(), "--faults redis-old: cannot be made with --redis cluster")
	o.Redis = "ring"
	require.ErrorContains(t, o.Validate(), "--redis ring: give one of single, secured, cluster, sentinel")
}

// A service and the run itself reach Redis, however it is set up.
func TestRedis_TakesTheServices(t *testing.T) {
	binary, err := exec.LookPath("redis-server")
	require.NoError(t, err)
	for _, kind := range RedisKinds() {
		t.Run(kind, func(t *testing.T) {
			c := startCache(t, binary, kind)
			s, err := state.Open(t.Context(), state.Options{Config: c.config()})
			require.NoError(t, err)
			require.NoError(t, s.Close())
			env, err := c.env(local(c.port()), "processor")
			require.NoError(t, err)
			require.NotEmpty(t, env)
		})
	}
}

// What the replica has is there after the Sentinel has made the replica the master,
// and again.
func TestRedis_FailsOverAndBack(t *testing.T) {
	binary, err := exec.LookPath("redis-server")
	require.NoError(t, err)
	c := startCache(t, binary, redisSentinel)
	s, err := state.Open(t.Context(), state.Options{Config: c.config()})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	client, ok := s.Redis().(*redis.Client)
	require.True(t, ok)
	require.NoError(t, client.Set(t.Context(), "kept", "yes", 0).Err())
	n, err := client.Wait(t.Context(), 1, time.Minute).Result() // for the replica
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
	for range 2 {
		require.NoError(t, c.replicated(t.Context()))
		old, err := c.master(t.Context())
		require.NoError(t, err)
		c.nodes[old].process.kill()
		moved := func() bool { now, err := c.master(t.Context()); return err == nil && now != old }
		if !assert.Eventually(t, moved, failoverWait, poll) {
			t.Fatal(tail(c.watcher.process.log))
		}
		c.nodes[old].process.up()
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			kept, err := client.Get(t.Context(), "kept").Result()
			require.NoError(c, err)
			require.Equal(c, "yes", kept)
		}, failoverWait, poll)
	}
}

func startCache(t *testing.T, binary, kind string) *cache {
	t.Helper()
	dir := t.TempDir()
	j, err := newJournal(filepath.Join(dir, "run.jsonl"))
	require.NoError(t, err)
	t.Cleanup(j.close)
	c, err := newCache(t.Context(), dir, binary, kind, ports{}, j)
	require.NoError(t, err)
	for _, p := range c.processes() {
		p.start()
		t.Cleanup(func() { p.stop(syscall.SIGKILL, time.Minute) })
	}
	require.NoError(t, c.assemble(t.Context()))
	return c
}

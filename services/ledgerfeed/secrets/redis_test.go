package secrets_test

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/faultproxy"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/secrets"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/secrets/secretstest"
)

// redisConfig is that of a service.
func redisConfig(t *testing.T, dir, address, service string) state.Config {
	t.Helper()
	u, err := url.Parse(secretOf(t, dir, "redis_"+service+"_url"))
	require.NoError(t, err)
	require.Equal(t, "rediss", u.Scheme)
	u.Host = address
	return state.Config{URL: secret.String(u.String()), CAFile: dir + "/ca.crt"}
}

func client(t *testing.T, c state.Config) *redis.Client {
	t.Helper()
	s, err := state.Open(t.Context(), state.Options{Config: c})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	one, ok := s.Redis().(*redis.Client)
	require.True(t, ok)
	return one
}

// Who has no password, a wrong one or no TLS, is turned away, and a client trusts no other
// authority.
func TestRedis_RefusesStrangers(t *testing.T) {
	dir := given(t)
	address := secretstest.Redis(t, deploy, dir)
	good := redisConfig(t, dir, address, "processor")
	require.NoError(t, client(t, good).Ping(t.Context()).Err())
	for name, tt := range map[string]struct {
		change func(*state.Config)
		want   string
	}{
		"anonymous":       {func(c *state.Config) { c.URL = secret.String("rediss://" + address + "/0") }, "NOAUTH"},
		"default user":    {func(c *state.Config) { c.URL = secret.String("rediss://:ledgerfeed@" + address + "/0") }, "user is disabled"},
		"wrong password":  {func(c *state.Config) { c.URL = secret.String("rediss://processor:wrong@" + address + "/0") }, "WRONGPASS"},
		"no TLS":          {func(c *state.Config) { c.URL, c.CAFile = secret.String("redis://"+address+"/0"), "" }, ""},
		"other authority": {func(c *state.Config) { c.CAFile = given(t) + "/ca.crt" }, "unknown authority"},
	} {
		c := good
		tt.change(&c)
		_, err := state.Open(t.Context(), state.Options{Config: c})
		require.ErrorIs(t, err, state.ErrUnreachable, name)
		require.ErrorContains(t, err, tt.want, name)
	}
}

// No service may do anything to the server, see all keys, or touch those of another program.
func TestRedis_NoServiceHarmsTheServer(t *testing.T) {
	dir := given(t)
	address := secretstest.Redis(t, deploy, dir)
	attacks := []string{
		"FLUSHALL", "FLUSHDB", "KEYS *", "CONFIG GET requirepass", "CONFIG SET maxmemory 1", "CONFIG RESETSTAT", "CONFIG REWRITE", "DEBUG SLEEP 0", "DEBUG JMAP",
		"SHUTDOWN NOSAVE", "SAVE", "BGSAVE", "BGREWRITEAOF", "REPLICAOF 10.0.0.1 6379", "SLAVEOF NO ONE", "MONITOR", "SYNC", "PSYNC ? -1", "FAILOVER",
		"ACL LIST", "ACL SETUSER processor on allkeys +@all", "ACL GETUSER console", "CLIENT LIST", "CLIENT KILL TYPE normal", "CLIENT PAUSE 1",
		"SCRIPT FLUSH", "SCRIPT KILL", "FUNCTION FLUSH", "FUNCTION LOAD x", "MODULE LIST", "MODULE LOAD /tmp/x.so", "SWAPDB 0 1", "MIGRATE 10.0.0.1 6379 k 0 1",
		"SLOWLOG GET", "LATENCY RESET", "MEMORY DOCTOR", "RESTORE lf:1:x 0 x", "SUBSCRIBE x", "PUBLISH x y", "SET other 1", "GET other", "SET lf:2:x 1",
		"EVAL return(redis.call('FLUSHALL')) 0", "EVAL return(redis.call('SET','other','1')) 0",
	}
	for _, service := range []string{"processor", "reconciler", "console", "simulator"} {
		c := client(t, redisConfig(t, dir, address, service))
		for _, attack := range attacks {
			var args []any
			for word := range strings.FieldsSeq(attack) {
				args = append(args, word)
			}
			err := c.Do(t.Context(), args...).Err()
			require.Error(t, err, "%s: %s", service, attack)
			require.True(t, strings.Contains(err.Error(), "NOPERM") || strings.Contains(err.Error(), "no permissions") || strings.Contains(err.Error(), "can't run") || strings.Contains(err.Error(), "not allowed") || strings.Contains(err.Error(), "can't access"), "%s: %s: %v", service, attack, err)
		}
	}
	simulator := client(t, redisConfig(t, dir, address, "simulator"))
	for _, key := range []string{"lf:1:mark:{1}:pg:Bill", "lf:1:cur:{1}", "lf:1:actions", "lf:1:sinks", "lf:1:paused"} {
		require.ErrorContains(t, simulator.Del(t.Context(), key).Err(), "NOPERM", key)
	}
	health, err := url.Parse("rediss://health:none@" + address)
	require.NoError(t, err)
	h := redisConfig(t, dir, address, "console")
	h.URL = secret.String(health.String())
	one := client(t, h)
	require.ErrorContains(t, one.Get(t.Context(), "lf:1:sinks").Err(), "NOPERM")
	require.ErrorContains(t, one.Info(t.Context()).Err(), "NOPERM")
}

// What a service wrote by a script or a transaction is there after Redis was killed.
func TestRedis_KeepsTransactionsOverARestart(t *testing.T) {
	dir, data := given(t), t.TempDir()
	address, kill := secretstest.RedisIn(t, deploy, dir, data)
	c := client(t, redisConfig(t, dir, address, "processor"))
	require.NoError(t, c.Eval(t.Context(), "redis.call('SET', KEYS[1], 1) redis.call('SET', KEYS[2], 2) return 1", []string{"lf:1:a", "lf:1:b"}).Err())
	_, err := c.TxPipelined(t.Context(), func(p redis.Pipeliner) error {
		p.Set(t.Context(), "lf:1:c", 3, 0)
		p.Set(t.Context(), "lf:1:d", 4, 0)
		return nil
	})
	require.NoError(t, err)
	// With appendfsync everysec Redis may answer before it writes, while a sync takes long.
	require.Eventually(t, func() bool {
		return strings.Contains(c.Info(t.Context(), "persistence").Val(), "aof_buffer_length:0\r\n")
	}, 10*time.Second, 10*time.Millisecond)
	kill()
	address, _ = secretstest.RedisIn(t, deploy, dir, data)
	c = client(t, redisConfig(t, dir, address, "processor"))
	require.Equal(t, []any{"1", "2", "3", "4"}, c.MGet(t.Context(), "lf:1:a", "lf:1:b", "lf:1:c", "lf:1:d").Val())
}

// What Redis does not tell without CONFIG is no reason not to start.
func TestRedis_WithoutConfigTheChecksPass(t *testing.T) {
	dir := given(t)
	address := secretstest.Redis(t, deploy, dir)
	for _, service := range []string{"processor", "reconciler", "console"} {
		s, err := state.Open(t.Context(), state.Options{Config: redisConfig(t, dir, address, service)})
		require.NoError(t, err)
		defer s.Close()
		server, err := s.Server(t.Context())
		require.NoError(t, err)
		require.Equal(t, "yes", server.AppendOnly)
		require.Equal(t, "noeviction", server.Policy)
		require.Equal(t, int64(768<<20), server.MaxBytes)
		require.Empty(t, server.Problems(), "of %s", service)
		require.NoError(t, s.RequireSafe(t.Context()))
	}
}

// A renewed authority is trusted by the next connection, without a restart of the service; a
// file that cannot be read changes nothing.
func TestRedis_TakesAnotherAuthority(t *testing.T) {
	before := given(t)
	after := renewed(t, before)
	proxy, err := faultproxy.Start(t.Context(), secretstest.Redis(t, deploy, before), nil)
	require.NoError(t, err)
	defer proxy.Close()
	c := redisConfig(t, before, proxy.Addr(), "processor")
	c.CAFile = filepath.Join(t.TempDir(), "ca.crt")
	put(t, c.CAFile, read(t, before, "ca.crt"))
	s, err := state.Open(t.Context(), state.Options{Config: c})
	require.NoError(t, err)
	defer s.Close()

	put(t, c.CAFile, "half of a file")
	proxy.Drop()
	require.Eventually(t, func() bool { return s.Ping(t.Context()) == nil }, 20*time.Second, 10*time.Millisecond)

	proxy.Redirect(secretstest.Redis(t, deploy, after))
	proxy.Drop()
	require.ErrorContains(t, s.Ping(t.Context()), "unknown authority")
	put(t, c.CAFile, read(t, after, "ca.crt"))
	require.Eventually(t, func() bool { return s.Ping(t.Context()) == nil }, 20*time.Second, 10*time.Millisecond)
}

// With Sentinels, which have a password of their own, a service finds the master, and the next
// one after a failover; it may not tell them what to do, and nobody else may ask.
func TestRedis_SentinelsKnowTheirUsers(t *testing.T) {
	dir := given(t)
	sentinel, killMaster := secretstest.Sentinels(t, deploy, dir)
	c := redisConfig(t, dir, sentinel, "processor")
	c.Sentinel, c.SentinelUser, c.SentinelPassword = "ledgerfeed", "services", secret.String(secretOf(t, dir, "redis_sentinel_password"))
	var s *state.Store
	require.Eventually(t, func() (ok bool) {
		var err error
		s, err = state.Open(t.Context(), state.Options{Config: c})
		return err == nil
	}, 30*time.Second, 50*time.Millisecond)
	defer s.Close()

	anonymous := c
	anonymous.SentinelUser, anonymous.SentinelPassword = "", ""
	_, err := state.Open(t.Context(), state.Options{Config: anonymous, Timeout: 2 * time.Second})
	require.ErrorIs(t, err, state.ErrUnreachable)

	own := client(t, state.Config{URL: secret.String("rediss://services:" + c.SentinelPassword.Reveal() + "@" + sentinel), CAFile: c.CAFile})
	for _, attack := range []string{"SENTINEL FAILOVER ledgerfeed", "SENTINEL SET ledgerfeed quorum 9", "SENTINEL REMOVE ledgerfeed", "SENTINEL RESET *", "SENTINEL MONITOR x 10.0.0.1 1 1", "SENTINEL CONFIG GET *", "SHUTDOWN", "ACL LIST"} {
		var args []any
		for word := range strings.FieldsSeq(attack) {
			args = append(args, word)
		}
		require.ErrorContains(t, own.Do(t.Context(), args...).Err(), "NOPERM", attack)
	}

	replicas := func() string { return fmt.Sprint(own.Do(t.Context(), "SENTINEL", "REPLICAS", "ledgerfeed").Val()) }
	require.Eventually(t, func() bool { return strings.Contains(replicas(), "master-link-status:ok") }, 30*time.Second, 50*time.Millisecond, "%s", replicas())
	require.NoError(t, s.Redis().Set(t.Context(), "lf:1:x", "1", 0).Err())
	killMaster()
	require.Eventually(t, func() bool { return s.Redis().Set(t.Context(), "lf:1:x", "2", 0).Err() == nil }, 60*time.Second, 100*time.Millisecond)
}

// renewed are the same secrets with another authority.
func renewed(t *testing.T, dir string) string {
	t.Helper()
	again := filepath.Join(t.TempDir(), "secrets")
	require.NoError(t, os.CopyFS(again, os.DirFS(dir)))
	for _, pattern := range []string{"*.crt", "*.key"} {
		names, err := filepath.Glob(filepath.Join(again, pattern))
		require.NoError(t, err)
		for _, name := range names {
			require.NoError(t, os.Remove(name))
		}
	}
	require.NoError(t, secrets.Make(secrets.Options{Dir: again}))
	return again
}

func put(t *testing.T, file, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
}

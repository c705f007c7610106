package processor_test

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ledgerfeed/ledgerfeed/pkg/certificate/certificatetest"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// on has the bundle use another Redis.
func (b *bundle) on(c state.Config) {
	b.t.Helper()
	var err error
	b.store, err = state.Open(b.t.Context(), state.Options{Config: c, Now: b.clock.Now})
	require.NoError(b.t, err)
	b.t.Cleanup(func() { b.store.Close() })
	b.connections = b.openConnections(b.store)
	b.client = b.newClient(b.connections, b.store)
	b.connect(realm)
}

// flow makes changes while fault happens, and wants all of them delivered.
func (b *bundle) flow(fault func()) {
	b.t.Helper()
	p := b.start()
	var faults sync.WaitGroup
	b.create("Bill", nil)
	b.deliver(p)
	faults.Go(fault)
	for i := range 30 {
		b.create([]string{"Bill", "Invoice", "Customer"}[i%3], nil)
		b.clock.Advance(time.Second)
		b.publish(b.webhooks()...)
	}
	faults.Wait()
	b.create("Bill", nil)
	b.publish(b.webhooks()...)
	b.settle(p)
	b.requireEqual(b.a, b.b)
	require.Empty(b.t, b.dead())
}

// Changes are delivered with every kind of Redis that is documented.
func TestRedis_EveryKind(t *testing.T) {
	t.Parallel()
	none := func() {}
	for name, start := range map[string]func(t *testing.T) (c state.Config, fault func()){
		"cluster": func(t *testing.T) (state.Config, func()) {
			return state.Config{URL: secret.String(devtest.RedisCluster(t)), Cluster: true}, none
		},
		"sentinel": func(t *testing.T) (state.Config, func()) {
			s := devtest.StartRedisSentinel(t)
			return state.Config{URL: secret.String(s.URL), Sentinel: s.Master}, s.KillMaster
		},
		"private CA and client certificate": func(t *testing.T) (state.Config, func()) { return tlsRedis(t), none },
		"least rights": func(t *testing.T) (state.Config, func()) {
			return limitedUser(t, devtest.RealRedis(t)), none
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, fault := start(t)
			b := setup(t)
			b.on(c)
			b.flow(fault)
		})
	}
}

// tlsRedis is one that takes clients by TLS who show a certificate of its authority.
func tlsRedis(t *testing.T) state.Config {
	t.Helper()
	authority := certificatetest.New(t)
	leaf := authority.Leaf(time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	require.NoError(t, l.Close())
	ca := authority.RootFile()
	devtest.StartRealRedisWith(t, "--tls-port", port, "--tls-cert-file", leaf.CertFile, "--tls-key-file", leaf.KeyFile, "--tls-ca-cert-file", ca, "--tls-auth-clients", "yes")
	c := state.Config{URL: secret.String("rediss://127.0.0.1:" + port + "/0"), CAFile: ca, ClientCertFile: leaf.CertFile, ClientKeyFile: leaf.KeyFile}
	for _, without := range []func(*state.Config){
		func(c *state.Config) { c.CAFile = "" },
		func(c *state.Config) { c.ClientCertFile, c.ClientKeyFile = "", "" },
	} {
		wrong := c
		without(&wrong)
		_, err := state.Open(t.Context(), state.Options{Config: wrong})
		require.ErrorIs(t, err, state.ErrUnreachable)
	}
	return c
}

// limitedUser is the URL of a user with the rights that are documented.
func limitedUser(t *testing.T, url string) state.Config {
	t.Helper()
	o, err := redis.ParseURL(url)
	require.NoError(t, err)
	admin := redis.NewClient(o)
	defer admin.Close()
	rule := []any{"ACL", "SETUSER", "ledgerfeed", "on", ">secret"}
	for part := range strings.FieldsSeq(state.ACLRule) {
		rule = append(rule, part)
	}
	require.NoError(t, admin.Do(t.Context(), rule...).Err())
	return state.Config{URL: secret.String(strings.Replace(url, "redis://", "redis://ledgerfeed:secret@", 1))}
}

// What a Redis answers while it cannot do its work costs a delay and no dead letter.
func TestRedis_FaultsWhileEventsFlow(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(t *testing.T, s *devtest.RedisServer, c *redis.Client){
		"SCRIPT FLUSH": func(t *testing.T, _ *devtest.RedisServer, c *redis.Client) {
			for range 20 {
				require.NoError(t, c.ScriptFlush(t.Context()).Err())
			}
		},
		"OOM": func(t *testing.T, _ *devtest.RedisServer, c *redis.Client) {
			require.NoError(t, c.ConfigSet(t.Context(), "maxmemory", "1").Err())
			refused(t, c, "OOM")
			require.NoError(t, c.ConfigSet(t.Context(), "maxmemory", "0").Err())
		},
		"READONLY": func(t *testing.T, _ *devtest.RedisServer, c *redis.Client) {
			require.NoError(t, c.ReplicaOf(t.Context(), "127.0.0.1", "1").Err())
			refused(t, c, "READONLY")
			require.NoError(t, c.ReplicaOf(t.Context(), "NO", "ONE").Err())
		},
		"BUSY": func(t *testing.T, _ *devtest.RedisServer, c *redis.Client) {
			require.NoError(t, c.ConfigSet(t.Context(), "busy-reply-threshold", "20").Err())
			hangs := make(chan struct{})
			go func() {
				defer close(hangs)
				c.Eval(t.Context(), "while true do end", nil)
			}()
			refused(t, c, "BUSY")
			require.NoError(t, c.ScriptKill(t.Context()).Err())
			<-hangs
		},
		"LOADING": func(_ *testing.T, s *devtest.RedisServer, _ *redis.Client) {
			s.Kill()
			s.StartWith("--key-load-delay", "3000", "--loading-process-events-interval-bytes", "1024")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := devtest.StartRealRedis(t)
			o, err := redis.ParseURL(s.URL())
			require.NoError(t, err)
			o.ReadTimeout, o.MaxRetries = time.Second, -1
			c := redis.NewClient(o)
			defer c.Close()
			b := setup(t)
			b.on(state.Config{URL: secret.String(s.URL())})
			b.flow(func() { fault(t, s, c) })
		})
	}
}

// A processor that starts while Redis takes no writes waits for it.
func TestRedis_AStartWaitsForWrites(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.on(state.Config{URL: secret.String(devtest.RealRedis(t))})
	c := b.store.Redis()
	require.NoError(t, c.ConfigSet(t.Context(), "maxmemory", "1").Err())
	core, logged := observer.New(zap.WarnLevel)
	o := b.options()
	o.Logger = zap.New(core)
	p := b.run(o)
	require.Eventually(t, func() bool { return logged.FilterMessage("startup step failed, will retry").Len() > 0 }, patient, 10*time.Millisecond)
	require.NoError(t, c.ConfigSet(t.Context(), "maxmemory", "0").Err())
	bill := b.create("Bill", nil)
	b.deliver(p)
	require.NotNil(t, b.a.last(t, bill))
}

// refused waits until a write has had such an answer several times.
func refused(t *testing.T, c *redis.Client, answer string) {
	t.Helper()
	n := 0
	require.Eventually(t, func() bool {
		if err := c.Set(t.Context(), "test:x", fmt.Sprint(n), 0).Err(); err != nil && strings.HasPrefix(err.Error(), answer) {
			n++
		}
		return n > 20
	}, patient, 10*time.Millisecond)
}

package state_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

func openReal(t *testing.T) *state.Store {
	t.Helper()
	s, err := state.Open(t.Context(), state.Options{Config: state.Config{URL: secret.String(devtest.RealRedis(t))}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func problems(t *testing.T, s *state.Store) map[string]state.Problem {
	t.Helper()
	server, err := s.Server(t.Context())
	require.NoError(t, err)
	all := map[string]state.Problem{}
	for _, p := range server.Problems() {
		all[p.Check] = p
	}
	return all
}

// A real Redis that evicts under real memory pressure is refused, and says how much is
// gone.
func TestProblems_OfARedisThatEvicts(t *testing.T) {
	s := openReal(t)
	require.Empty(t, problems(t, s), "the tests' own is as it should be")
	require.NoError(t, s.RequireSafe(t.Context()))
	set := func(name, value string) { require.NoError(t, s.Redis().ConfigSet(t.Context(), name, value).Err()) }
	set("maxmemory", "4mb")
	for _, safe := range []string{"noeviction", "volatile-lru", "volatile-ttl"} {
		set("maxmemory-policy", safe)
		require.NoError(t, s.RequireSafe(t.Context()), safe)
	}
	set("maxmemory-policy", "allkeys-lru")
	for i := range 3000 {
		require.NoError(t, s.Redis().Set(t.Context(), "k"+strings.Repeat("x", i%7)+time.Duration(i).String(), strings.Repeat("v", 2000), 0).Err())
	}
	p := problems(t, s)[state.CheckEviction]
	require.True(t, p.Grave)
	require.Regexp(t, `maxmemory-policy is allkeys-lru: .* throws away cursors and tokens \(evicted so far: [1-9]\d* keys\)`, p.Text)
	require.ErrorAs(t, s.RequireSafe(t.Context()), new(*state.UnsafeError))
	require.ErrorContains(t, s.RequireSafe(t.Context()), "set maxmemory-policy noeviction")
	require.Contains(t, problems(t, s)[state.CheckMemory].Text, "of 4 MiB used")
}

func TestProblems_OfARedisThatDoesNotKeep(t *testing.T) {
	s := openReal(t)
	require.NoError(t, s.Redis().ConfigSet(t.Context(), "appendonly", "no").Err())
	require.Contains(t, problems(t, s)[state.CheckDisk].Text, "appendonly is no")
	require.NoError(t, s.RequireSafe(t.Context()), "it may be wanted so")
}

// A server that forbids the question is not called unsafe.
func TestProblems_OfARedisThatDoesNotTell(t *testing.T) {
	url := devtest.RealRedis(t)
	admin, err := state.Open(t.Context(), state.Options{Config: state.Config{URL: secret.String(url)}})
	require.NoError(t, err)
	defer admin.Close()
	require.NoError(t, admin.Redis().Do(t.Context(), "ACL", "SETUSER", "feed", "on", ">secret", "~*", "&*", "+@all", "-@admin", "-@dangerous").Err())
	s, err := state.Open(t.Context(), state.Options{Config: state.Config{URL: secret.String(strings.Replace(url, "redis://", "redis://feed:secret@", 1))}})
	require.NoError(t, err)
	defer s.Close()
	require.NoError(t, s.RequireSafe(t.Context()))
	for _, p := range problems(t, s) {
		require.True(t, p.Unknown, p)
	}
}

func TestProblems_OfServersWeDoNotRun(t *testing.T) {
	for name, row := range map[string]struct {
		server state.Server
		check  string
		want   string
	}{
		"an old Redis":           {state.Server{Product: "redis", Version: "6.0.16", AppendOnly: "yes", Policy: "noeviction"}, state.CheckVersion, "redis 6.0.16 is too old: 6.2.0 or newer is needed"},
		"a replica behind":       {state.Server{Product: "redis", Version: "7.2.4", AppendOnly: "yes", Policy: "noeviction", ReplicaLag: 60}, state.CheckReplication, "a replica is 60 seconds behind"},
		"evicted before":         {state.Server{Product: "redis", Version: "7.2.4", AppendOnly: "yes", Policy: "noeviction", Evicted: 7}, state.CheckEviction, "7 keys were evicted since Redis started, under another maxmemory-policy than noeviction: cursors and tokens may be among them"},
		"evicted temporary keys": {state.Server{Product: "redis", Version: "7.2.4", AppendOnly: "yes", Policy: "volatile-lru", Evicted: 7}, "", ""},
		"a full machine": {
			state.Server{Product: "redis", Version: "7.2.4", AppendOnly: "yes", Policy: "noeviction", UsedBytes: 900 << 20, SystemBytes: 1 << 30}, state.CheckMemory,
			"900 of the machine's 1024 MiB used, without a maxmemory: when they are full, the kernel ends Redis",
		},
		"Valkey": {state.Server{Product: "valkey", Version: "7.2.4", AppendOnly: "yes", Policy: "noeviction"}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if row.server.UsedBytes == 0 {
				row.server.UsedBytes = 1 << 20
			}
			all := row.server.Problems()
			if row.check == "" {
				require.Empty(t, all)
				return
			}
			require.Len(t, all, 1)
			require.Equal(t, row.check, all[0].Check)
			require.Equal(t, row.want, strings.Split(all[0].Text, ": a failover")[0])
		})
	}
}

// A replica that somebody has configured is named.
func TestProblems_OfAReplica(t *testing.T) {
	s := openReal(t)
	require.NoError(t, s.Redis().(*redis.Client).ReplicaOf(t.Context(), "127.0.0.1", "1").Err())
	p := problems(t, s)[state.CheckReplication]
	require.Equal(t, "this Redis is a replica and takes no writes, and does not reach its master", p.Text)
	require.Contains(t, p.Remedy, "redis.sentinel")
}

// What a Redis does not tell is logged once too.
func TestWatchServer_SaysOnceWhatItCannotTell(t *testing.T) {
	url := devtest.RealRedis(t)
	admin := open(t, state.Config{URL: secret.String(url)})
	require.NoError(t, admin.Redis().Do(t.Context(), "ACL", "SETUSER", "feed", "on", ">secret", "~*", "&*", "+@all", "-@admin", "-@dangerous").Err())
	s := open(t, state.Config{URL: secret.String(strings.Replace(url, "redis://", "redis://feed:secret@", 1))})
	core, logged := observer.New(zap.WarnLevel)
	var known map[string]bool
	for range 3 {
		known = s.LookForProblems(t.Context(), zap.New(core), func(n map[string]int) { require.Zero(t, n[state.CheckDisk]) }, known)
	}
	var parts []string
	for _, line := range logged.FilterMessage("redis persistence unknown").All() {
		parts = append(parts, fmt.Sprint(line.ContextMap()["part"]))
	}
	require.ElementsMatch(t, []string{state.CheckDisk, state.CheckEviction, state.CheckMemory}, parts)
}

// What is wrong is logged once.
func TestWatchServer_LogsWhatHasChanged(t *testing.T) {
	s := openReal(t)
	core, logged := observer.New(zap.WarnLevel)
	found := map[string]int{}
	known := s.LookForProblems(t.Context(), zap.New(core), func(n map[string]int) { found = n }, nil)
	require.Zero(t, logged.Len())
	require.NoError(t, s.Redis().ConfigSet(t.Context(), "maxmemory-policy", "allkeys-random").Err())
	for range 3 {
		known = s.LookForProblems(t.Context(), zap.New(core), func(n map[string]int) { found = n }, known)
	}
	require.Equal(t, 1, logged.Len())
	require.Equal(t, 1, found[state.CheckEviction])
	require.NoError(t, s.Redis().ConfigSet(t.Context(), "maxmemory-policy", "noeviction").Err())
	s.LookForProblems(t.Context(), zap.New(core), func(n map[string]int) { found = n }, known)
	require.Zero(t, found[state.CheckEviction])
}

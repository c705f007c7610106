package state_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// What was replicated is there after the master is gone, and writes go on at the
// replica without a restart of ours.
func TestStore_FollowsTheSentinelToTheReplica(t *testing.T) {
	t.Parallel()
	const password = "p@ss"
	master, replica := devtest.StartRealRedis(t), devtest.StartRealRedis(t)
	to, from := dialRedis(t, master.URL(), ""), dialRedis(t, replica.URL(), "")
	host, port, err := net.SplitHostPort(to.Options().Addr)
	require.NoError(t, err)
	for _, c := range []*redis.Client{to, from} {
		require.NoError(t, c.ConfigSet(t.Context(), "masterauth", password).Err())
	}
	require.NoError(t, to.ConfigSet(t.Context(), "requirepass", password).Err())
	require.NoError(t, from.ReplicaOf(t.Context(), host, port).Err())
	require.NoError(t, from.ConfigSet(t.Context(), "requirepass", password).Err())
	from = dialRedis(t, replica.URL(), password)
	require.Eventually(t, func() bool {
		return strings.Contains(from.Info(t.Context(), "replication").Val(), "master_link_status:up")
	}, 30*time.Second, 20*time.Millisecond)

	sentinel := startSentinel(t, host, port, password)
	require.Eventually(t, func() bool {
		return strings.Contains(sentinel.Info(t.Context(), "sentinel").Val(), "status=ok") &&
			strings.Contains(sentinel.Info(t.Context(), "sentinel").Val(), "slaves=1")
	}, 30*time.Second, 50*time.Millisecond)

	s := open(t, state.Config{URL: secret.String("redis://:p%40ss@" + sentinel.Options().Addr + "/0"), Sentinel: "books"})
	_, err = s.RegisterSinks(t.Context(), []string{"pg"})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		return from.Exists(t.Context(), "lf:1:sinks").Val() == 1
	}, 30*time.Second, 20*time.Millisecond)

	master.Kill()
	require.Eventually(t, func() bool {
		_, err := s.RegisterSinks(t.Context(), []string{"webhook"})
		return err == nil
	}, 60*time.Second, 100*time.Millisecond)
	sinks, err := s.Sinks(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"pg", "webhook"}, sinks)
}

func TestConfig_SentinelNamesHostAndPort(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"redis://:hunter2@a:26379/0?addr=b:26379": "",
		"redis://:hunter2@a/0":                    "host:port",
		"redis://:hunter2@a:1/0?addr=b":           "host:port",
		"redis://:hunter2@a:1/zero":               "redis://[user:password@]host:port",
	} {
		err := state.Config{URL: secret.String(url), Sentinel: "books"}.Validate()
		if want == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, want, url)
		require.NotContains(t, err.Error(), "hunter2")
	}
	err := state.Config{URL: "redis://a:1", Sentinel: "books", Cluster: true}.Validate()
	require.ErrorContains(t, err, "leave one out")
}

func dialRedis(t *testing.T, url, password string) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(url)
	require.NoError(t, err)
	o.Password = password
	c := redis.NewClient(o)
	t.Cleanup(func() { c.Close() })
	return c
}

// startSentinel starts one that needs nobody else's vote.
func startSentinel(t *testing.T, host, port, password string) *redis.Client {
	t.Helper()
	listen := devtest.FreePort(t)
	file := filepath.Join(t.TempDir(), "sentinel.conf")
	text := fmt.Sprintf(`bind 127.0.0.1
port %d
sentinel monitor books %s %s 1
sentinel auth-pass books %s
sentinel down-after-milliseconds books 1000
sentinel failover-timeout books 10000
`, listen, host, port, password)
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	// Ends with its input, and so with this process.
	cmd := exec.Command("/bin/sh", "-c", `"$@" & pid=$!; read -r _; kill -9 $pid; wait $pid`, "sh", "redis-server", file, "--sentinel")
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
	})
	c := dialRedis(t, "redis://127.0.0.1:"+strconv.Itoa(listen), "")
	require.Eventually(t, func() bool { return c.Ping(t.Context()).Err() == nil }, 30*time.Second, 20*time.Millisecond)
	return c
}

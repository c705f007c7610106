package state_test

import (
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		cluster.stop()
		os.Exit(code)
	}))
}

// everywhere runs a test on each server the scripts must work on: the embedded
// one, redis-server, and a Redis Cluster, which refuses a script whose keys are
// not in one slot.
func everywhere(t *testing.T, test func(t *testing.T, s *state.Store)) {
	t.Helper()
	t.Parallel()
	for name, config := range map[string]func(testing.TB) state.Config{
		"embedded": func(t testing.TB) state.Config { return at(embedded(t)) },
		"redis":    func(t testing.TB) state.Config { return at(devtest.RealRedis(t)) },
		"cluster":  cluster.take,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t, config(t)))
		})
	}
}

// shared is held by the test that uses the server of REDIS_URL.
var shared sync.Mutex

func embedded(t testing.TB) string {
	t.Helper()
	if os.Getenv("REDIS_URL") != "" {
		shared.Lock()
		t.Cleanup(shared.Unlock)
	}
	return devtest.Redis(t)
}

func at(url string) state.Config { return state.Config{URL: secret.String(url)} }

func open(t testing.TB, c state.Config) *state.Store {
	t.Helper()
	s, err := state.Open(t.Context(), state.Options{Config: c})
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// cluster is the one of this test binary: it takes two seconds to start.
var cluster clusterServer

// clusterServer is a cluster of one node that has all slots, for one test at a
// time. It ends with this process, however that ends: the kernel closes the
// pipe the shell reads.
type clusterServer struct {
	mu    sync.Mutex // held by the test that uses it
	addr  string
	cmd   *exec.Cmd
	stdin io.Closer
	dir   string
}

func (s *clusterServer) take(t testing.TB) state.Config {
	t.Helper()
	s.mu.Lock()
	t.Cleanup(s.mu.Unlock)
	if s.cmd == nil {
		s.start(t)
	}
	c := redis.NewClient(&redis.Options{Addr: s.addr})
	defer c.Close()
	require.NoError(t, c.FlushAll(t.Context()).Err())
	return state.Config{URL: secret.String("redis://" + s.addr), Cluster: true}
}

func (s *clusterServer) start(t testing.TB) {
	t.Helper()
	var err error
	s.dir, err = os.MkdirTemp("", "ledgerfeed-cluster-")
	require.NoError(t, err)
	port := devtest.FreePort(t)
	s.addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	s.cmd = exec.Command("/bin/sh", "-c", `"$@" & pid=$!; read -r _; kill -9 $pid; wait $pid`, "sh",
		"redis-server", "--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--dir", s.dir,
		"--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(devtest.FreePort(t)), "--save", "", "--appendonly", "no")
	// A group of its own: an interrupt from the terminal would end the shell first.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	s.stdin, err = s.cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, s.cmd.Start())

	c := redis.NewClient(&redis.Options{Addr: s.addr})
	defer c.Close()
	require.Eventually(t, func() bool { return c.Ping(t.Context()).Err() == nil }, 10*time.Second, 10*time.Millisecond)
	require.NoError(t, c.ClusterAddSlotsRange(t.Context(), 0, 16383).Err())
	require.Eventually(t, func() bool {
		return strings.Contains(c.ClusterInfo(t.Context()).Val(), "cluster_state:ok")
	}, 10*time.Second, 10*time.Millisecond)
}

func (s *clusterServer) stop() {
	if s.cmd == nil {
		return
	}
	s.stdin.Close()
	s.cmd.Wait()
	os.RemoveAll(s.dir)
}

// cancelled is a context that has ended.
func cancelled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// keys are all keys of the database.
func keys(t *testing.T, s *state.Store) []string {
	t.Helper()
	var all []string
	collect := func(ctx context.Context, c *redis.Client) error {
		for it := c.Scan(ctx, 0, "*", 1000).Iterator(); it.Next(ctx); {
			all = append(all, it.Val())
		}
		return nil
	}
	if c, ok := s.Redis().(*redis.ClusterClient); ok {
		require.NoError(t, c.ForEachMaster(t.Context(), collect))
		return all
	}
	require.NoError(t, collect(t.Context(), s.Redis().(*redis.Client)))
	return all
}

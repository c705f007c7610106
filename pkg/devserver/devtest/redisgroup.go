package devtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver"
)

// RedisCluster starts a Redis Cluster of three masters and returns the URL of one of them.
func RedisCluster(t testing.TB) string {
	t.Helper()
	const masters = 3
	var servers []*RedisServer
	var nodes []devserver.RedisNode
	ports, err := freePorts(masters)
	if err != nil {
		t.Fatalf("devtest: %v", err)
	}
	for i := range masters {
		s := StartRealRedisWith(t, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(ports[i]))
		servers, nodes = append(servers, s), append(nodes, devserver.RedisNode{Port: s.port, Bus: ports[i]})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := devserver.JoinRedisCluster(ctx, nodes); err != nil {
		t.Fatalf("devtest: %v", err)
	}
	return servers[0].URL()
}

// RedisSentinel is a master with a replica, and a Sentinel that needs nobody else's vote.
type RedisSentinel struct {
	// URL is the Sentinel's, Master the name of the master there.
	URL, Master string
	master      *RedisServer
}

// StartRedisSentinel starts one.
func StartRedisSentinel(t testing.TB) *RedisSentinel {
	t.Helper()
	master, replica := StartRealRedis(t), StartRealRedis(t)
	from := replica.client(t)
	if err := from.ReplicaOf(t.Context(), "127.0.0.1", strconv.Itoa(master.port)).Err(); err != nil {
		t.Fatalf("devtest: %v", err)
	}
	eventually(t, "the replica follows", func() bool {
		return strings.Contains(from.Info(t.Context(), "replication").Val(), "master_link_status:up")
	})
	s := &RedisSentinel{Master: "feed", master: master}
	dir := t.TempDir()
	var p *process
	err := onFreePort(func(port int) error {
		text := fmt.Sprintf("bind 127.0.0.1\nport %d\nsentinel monitor feed 127.0.0.1 %d 1\nsentinel down-after-milliseconds feed 500\nsentinel failover-timeout feed 5000\n", port, master.port)
		file := filepath.Join(dir, "sentinel.conf")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return err
		}
		binary, err := exec.LookPath("redis-server")
		if err != nil {
			return err
		}
		if p, err = start(spec{binary: binary, args: []string{file, "--sentinel"}, dir: dir, signal: syscall.SIGKILL}); err != nil {
			return err
		}
		s.URL = fmt.Sprintf("redis://127.0.0.1:%d/0", port)
		return p.untilListening(local(port))
	})
	if err != nil {
		t.Fatalf("devtest: %v", err)
	}
	t.Cleanup(p.stop)
	sentinel := dialRedis(t, s.URL)
	eventually(t, "the Sentinel knows the replica", func() bool {
		info := sentinel.Info(t.Context(), "sentinel").Val()
		return strings.Contains(info, "status=ok") && strings.Contains(info, "slaves=1")
	})
	return s
}

// KillMaster has the Sentinel make the replica the master.
func (s *RedisSentinel) KillMaster() { s.master.Kill() }

func (r *RedisServer) client(t testing.TB) *redis.Client { return dialRedis(t, r.URL()) }

func dialRedis(t testing.TB, url string) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatalf("devtest: %v", err)
	}
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() }) // the server may be gone
	return c
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for tick := time.NewTicker(20 * time.Millisecond); !is(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("devtest: not so in time: %s", what)
		}
	}
}

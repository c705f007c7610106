package devtest

import (
	"bufio"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// RealRedis starts a redis-server of its own that appends every write to a
// synced file, and returns its URL. The database is empty.
func RealRedis(t testing.TB) string {
	t.Helper()
	return StartRealRedis(t).URL()
}

// RedisServer is a redis-server process that a test can kill and start again.
type RedisServer struct {
	host   string // 127.0.0.1 if empty
	t      testing.TB
	binary string
	dir    string
	port   int
	extra  []string // arguments
	p      *process
}

// StartRealRedis is RealRedis for tests of what happens when Redis goes away.
func StartRealRedis(t testing.TB) *RedisServer { return StartRealRedisWith(t) }

// StartRealRedisWith is StartRealRedis with more arguments, such as --tls-port.
func StartRealRedisWith(t testing.TB, args ...string) *RedisServer {
	t.Helper()
	r := newRedisServer(t)
	r.extra = args
	err := onFreePort(func(port int) error {
		r.port = port
		return r.start()
	})
	if err != nil {
		t.Fatalf("devtest: %v", err)
	}
	t.Cleanup(r.Kill)
	t.Logf("devtest: %s at %s, data in %s", r.binary, r.addr(), r.dir)
	return r
}

// newRedisServer is one that is not started.
func newRedisServer(t testing.TB) *RedisServer {
	t.Helper()
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal("devtest: redis-server is not installed: run `apt-get install redis-server` (Debian) or `brew install redis` (macOS)")
	}
	return &RedisServer{t: t, binary: binary, dir: t.TempDir()}
}

// URL is where clients connect to; it stays the same over restarts.
func (r *RedisServer) URL() string { return "redis://" + r.addr() + "/0" }

// Kill ends the process with SIGKILL and returns when it is gone. Killing a dead
// one is safe.
func (r *RedisServer) Kill() {
	if r.p != nil {
		r.p.stop()
		r.p = nil
	}
}

// Start starts it again on the same port with the data it had, and returns when
// it answers.
func (r *RedisServer) Start() {
	r.t.Helper()
	if r.p != nil {
		return
	}
	if err := r.start(); err != nil {
		r.t.Fatalf("devtest: %v", err)
	}
}

// StartWith is Start with other arguments than before.
func (r *RedisServer) StartWith(args ...string) {
	r.t.Helper()
	r.extra = args
	r.Start()
}

// Empty takes away the data of a dead server.
func (r *RedisServer) Empty() {
	r.t.Helper()
	entries, err := os.ReadDir(r.dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(r.dir, e.Name())))
	}
	if err != nil {
		r.t.Fatalf("devtest: %v", err)
	}
}

func (r *RedisServer) addr() string {
	return net.JoinHostPort(orLoopback(r.host), strconv.Itoa(r.port))
}

func (r *RedisServer) start() error {
	p, err := start(spec{
		binary: r.binary,
		args: append([]string{
			"--bind", orLoopback(r.host), "--port", strconv.Itoa(r.port), "--dir", r.dir,
			"--appendonly", "yes", "--appendfsync", "always", "--save", "", "--daemonize", "no",
		}, r.extra...),
		dir:    r.dir,
		signal: syscall.SIGKILL,
	})
	if err != nil {
		return err
	}
	if err := p.until(r.ping); err != nil {
		p.stop()
		return err
	}
	r.p = p
	return nil
}

// ping also waits for the end of loading: the answer is -LOADING until then.
func (r *RedisServer) ping() error {
	c, err := dial(r.addr())
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(line, "+PONG") {
		return errors.New(strings.TrimSpace(line))
	}
	return nil
}

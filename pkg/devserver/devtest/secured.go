package devtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// StartRedisFile starts a redis-server with a configuration file of its own, and returns its
// address. text makes the file for a port and a directory. The server takes connections then;
// whether it answers is for the caller to ask, as it may ask for a user or for TLS. args follow
// the file, such as --sentinel. kill ends it before the test does.
func StartRedisFile(t testing.TB, text func(port int, dir string) string, args ...string) (address string, kill func()) {
	t.Helper()
	r := newRedisServer(t)
	var p *process
	err := onFreePort(func(port int) error {
		r.port = port
		file := filepath.Join(r.dir, "redis.conf")
		if err := os.WriteFile(file, []byte(text(port, r.dir)), 0o600); err != nil {
			return err
		}
		var err error
		if p, err = start(spec{binary: r.binary, args: append([]string{file}, args...), dir: r.dir, signal: syscall.SIGKILL}); err != nil {
			return err
		}
		return p.untilListening(r.addr())
	})
	if err != nil {
		t.Fatalf("devtest: %v", err)
	}
	kill = sync.OnceFunc(p.stop)
	t.Cleanup(kill)
	return r.addr(), kill
}

// NATSConfig is the configuration of a NATS server, as its file says.
type NATSConfig = server.Options

// ReadNATSFile reads a configuration file, for a server in this process on a free port.
func ReadNATSFile(t testing.TB, file string) *NATSConfig {
	t.Helper()
	o, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatalf("devtest: %v", err)
	}
	o.Host, o.Port, o.HTTPPort, o.NoSigs, o.NoLog = "127.0.0.1", server.RANDOM_PORT, 0, true, true
	return o
}

// StartNATSConfig starts a server, and waits until it takes clients unless it is one of a
// cluster.
func StartNATSConfig(t testing.TB, o *NATSConfig) *server.Server {
	t.Helper()
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatalf("devtest: %v", err)
	}
	alone := o.Cluster.Port == 0 // the server writes the port that it takes
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if alone && !s.ReadyForConnections(20*time.Second) {
		t.Fatal("devtest: NATS takes no connections")
	}
	return s
}

// PostgresFiles are the contents of what a PostgreSQL with TLS reads.
type PostgresFiles struct{ Certificate, Key, Access string }

// SecuredPostgres is a PostgreSQL of its own that takes clients as pg_hba.conf says, with an
// empty database called books.
type SecuredPostgres struct {
	t testing.TB
	c *cluster
}

// StartSecuredPostgres starts one.
func StartSecuredPostgres(t testing.TB, f PostgresFiles) *SecuredPostgres {
	t.Helper()
	prepared := &cluster{}
	c, err := newCluster(prepared, func(c *cluster) error {
		out, err := c.run("initdb", "-D", c.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
		if err != nil {
			return fmt.Errorf("initdb: %w\n%s", err, out)
		}
		c.settings = []string{"ssl=on", "ssl_cert_file=own.crt", "ssl_key_file=own.key", "unix_socket_directories=" + c.dir}
		for name, text := range map[string]string{"own.crt": f.Certificate, "own.key": f.Key, "pg_hba.conf": f.Access} {
			file := filepath.Join(c.data(), name)
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				return err
			}
			if c.user != nil {
				if err := os.Chown(file, int(c.user.Uid), int(c.user.Gid)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("devtest: %v", err)
	}
	t.Cleanup(c.stop)
	p := &SecuredPostgres{t: t, c: c}
	p.run("createdb", "-h", c.dir, "-p", strconv.Itoa(c.port), "-U", "postgres", "books")
	return p
}

func (p *SecuredPostgres) run(tool string, args ...string) {
	p.t.Helper()
	if out, err := p.c.run(tool, args...); err != nil {
		p.t.Fatalf("devtest: %s: %v\n%s", tool, err, out)
	}
}

// Addr is where clients connect to.
func (p *SecuredPostgres) Addr() string { return p.c.addr() }

// SQL runs statements in the database books as the superuser.
func (p *SecuredPostgres) SQL(sql string) {
	p.t.Helper()
	p.run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", p.c.dir, "-p", strconv.Itoa(p.c.port), "-U", "postgres", "-c", sql, "books")
}

// Script runs a shell script whose psql reaches the server, as one in its container does.
func (p *SecuredPostgres) Script(file string) {
	p.t.Helper()
	cmd := exec.CommandContext(p.t.Context(), "sh", file)
	cmd.Env = append(os.Environ(), "PATH="+p.c.bin+":"+os.Getenv("PATH"), "PGHOST="+p.c.dir, "PGPORT="+strconv.Itoa(p.c.port), "POSTGRES_DB=books")
	if out, err := cmd.CombinedOutput(); err != nil {
		p.t.Fatalf("devtest: %s: %v\n%s", file, err, out)
	}
}

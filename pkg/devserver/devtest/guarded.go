package devtest

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/redis/go-redis/v9"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver"
)

// GuardedUser is who the servers of [StartGuarded] know.
const GuardedUser = "feed"

// Guarded are a Redis, a NATS and a PostgreSQL on one address that ask a user for a
// password. A test changes the password, and stops and starts the servers.
type Guarded struct {
	t    testing.TB
	host string

	redis    *RedisServer
	nats     *server.Server // nil while stopped
	options  server.Options
	postgres *cluster
	stopped  bool // postgres
}

// StartGuarded starts them on a loopback address, 127.0.0.1 or ::1.
func StartGuarded(t testing.TB, host, password string) *Guarded {
	t.Helper()
	g := &Guarded{t: t, host: host}
	if l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort(host, "0")); err != nil {
		t.Fatalf("devtest: this machine has no loopback address %s, which the test needs (for ::1: sysctl net.ipv6.conf.lo.disable_ipv6=0): %v", host, err)
	} else {
		_ = l.Close()
	}
	g.startRedis(password)
	g.startNATS(password)
	g.startPostgres(password)
	t.Logf("devtest: Redis, NATS and PostgreSQL at %s, %s and %s", g.redis.addr(), g.NATSURL(), g.postgres.addr())
	return g
}

func (g *Guarded) must(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatalf("devtest: %v", err)
	}
}

func (g *Guarded) startRedis(password string) {
	g.t.Helper()
	g.redis = newRedisServer(g.t)
	g.redis.host, g.redis.extra = g.host, userArgs(password)
	g.must(onFreePort(func(port int) error {
		g.redis.port = port
		return g.redis.start()
	}))
	g.t.Cleanup(g.redis.Kill)
}

func userArgs(password string) []string {
	return []string{"--user", GuardedUser, "on", ">" + password, "~*", "&*", "+@all"}
}

// RedisURL is where the user connects to.
func (g *Guarded) RedisURL(password string) string {
	return g.url("redis", g.redis.addr(), password, "/0")
}

// SetRedisPassword changes the password and cuts the user's connections.
func (g *Guarded) SetRedisPassword(password string) {
	g.t.Helper()
	admin := redis.NewClient(&redis.Options{Addr: g.redis.addr()})
	defer func() { _ = admin.Close() }()
	ctx := context.Background()
	g.must(admin.Do(ctx, "ACL", "SETUSER", GuardedUser, "resetpass", ">"+password).Err())
	g.must(admin.Do(ctx, "CLIENT", "KILL", "USER", GuardedUser).Err())
	g.redis.extra = userArgs(password)
}

func (g *Guarded) startNATS(password string) {
	g.t.Helper()
	g.options = server.Options{
		ServerName: "ledgerfeed-guarded", Host: g.host, Port: server.RANDOM_PORT, JetStream: true, StoreDir: g.t.TempDir(), JetStreamMaxStore: devserver.MaxStore,
		Username: GuardedUser, Password: password, NoSigs: true, NoLog: true,
	}
	g.must(g.runNATS())
	address, ok := g.nats.Addr().(*net.TCPAddr)
	if !ok {
		g.t.Fatal("devtest: NATS has no address")
	}
	g.options.Port = address.Port
	g.t.Cleanup(g.stopNATS)
}

func (g *Guarded) runNATS() error {
	s, err := startNATS(g.options)
	if err == nil {
		g.nats = s
	}
	return err
}

func (g *Guarded) stopNATS() {
	if g.nats != nil {
		g.nats.Shutdown()
		g.nats.WaitForShutdown()
		g.nats = nil
	}
}

// NATSURL has neither user nor password.
func (g *Guarded) NATSURL() string {
	return "nats://" + net.JoinHostPort(g.host, strconv.Itoa(g.options.Port))
}

// SetNATSPassword changes the password, and the server cuts the user's connections.
func (g *Guarded) SetNATSPassword(password string) {
	g.t.Helper()
	g.options.Password = password
	o := g.options
	g.must(g.nats.ReloadOptions(&o))
}

func (g *Guarded) startPostgres(password string) {
	g.t.Helper()
	var err error
	g.postgres, err = newCluster(&cluster{host: g.host, sync: true}, func(c *cluster) error {
		if out, err := c.run("initdb", "-D", c.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"); err != nil {
			return fmt.Errorf("initdb: %w\n%s", err, out)
		}
		access := "host all " + GuardedUser + " all scram-sha-256\nhost all all all trust\n"
		return os.WriteFile(filepath.Join(c.data(), "pg_hba.conf"), []byte(access), 0o600)
	})
	g.must(err)
	g.t.Cleanup(func() {
		g.StartPostgres()
		g.postgres.stop()
	})
	g.SQL("create role " + GuardedUser + " login password '" + password + "'")
	g.SQL("create database books owner " + GuardedUser)
}

// PostgresURL is where the user connects to.
func (g *Guarded) PostgresURL(password string) string {
	return g.url("postgres", g.postgres.addr(), password, "/books?sslmode=disable")
}

// SetPostgresPassword changes the password and cuts the user's connections.
func (g *Guarded) SetPostgresPassword(password string) {
	g.t.Helper()
	g.SQL("alter role " + GuardedUser + " password '" + password + "'")
	g.CutPostgres()
}

// CutPostgres cuts the user's connections.
func (g *Guarded) CutPostgres() {
	g.t.Helper()
	g.SQL("select pg_terminate_backend(pid) from pg_stat_activity where usename = '" + GuardedUser + "'")
}

// SQL runs a statement as the superuser.
func (g *Guarded) SQL(sql string) {
	g.t.Helper()
	out, err := g.postgres.run("psql", "-X", "-v", "ON_ERROR_STOP=1", "-h", g.host, "-p", strconv.Itoa(g.postgres.port), "-U", "postgres", "-c", sql, "postgres")
	if err != nil {
		g.t.Fatalf("devtest: %s: %v\n%s", sql, err, out)
	}
}

// StartPostgres starts PostgreSQL again.
func (g *Guarded) StartPostgres() {
	g.t.Helper()
	if g.stopped {
		g.must(g.postgres.start())
		g.stopped = false
	}
}

// Stop ends all of them; their data stay.
func (g *Guarded) Stop() {
	g.t.Helper()
	g.redis.Kill()
	g.stopNATS()
	if !g.stopped {
		g.postgres.p.stop()
		g.stopped = true
	}
}

// Start starts all of them again, on their ports.
func (g *Guarded) Start() {
	g.t.Helper()
	g.StartRedisAndNATS()
	g.StartPostgres()
}

// StartRedisAndNATS starts these two again.
func (g *Guarded) StartRedisAndNATS() {
	g.t.Helper()
	g.redis.Start()
	if g.nats == nil {
		g.must(g.runNATS())
	}
}

func (g *Guarded) url(scheme, address, password, rest string) string {
	return scheme + "://" + GuardedUser + ":" + url.QueryEscape(password) + "@" + address + rest
}

// orLoopback is the usual address where none is given.
func orLoopback(host string) string {
	if host == "" {
		return "127.0.0.1"
	}
	return host
}

package e2e_test

import (
	"crypto/tls"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// secret is a file of the demo's secrets.
func (e *engine) secret(name string) string {
	return filepath.Join(e.root, "deploy", "compose", "demo", name)
}

func (e *engine) word(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(e.secret(name))
	require.NoError(t, err)
	return strings.TrimSpace(string(text))
}

// database is where the role that writes reads, by TLS. The certificate is for the name in the
// stack's network; this machine knows the address alone.
func (e *engine) database(t *testing.T) string {
	t.Helper()
	u := url.URL{Scheme: "postgres", User: url.UserPassword("ledgerfeed", e.word(t, "postgres_writer_password")), Host: net.JoinHostPort(e.one(t, "postgres").address(), "5432"), Path: "/books"}
	u.RawQuery = "sslmode=verify-ca&sslrootcert=" + url.QueryEscape(e.secret("ca.crt"))
	return u.String()
}

// apart checks that the servers are in a network of their own, which leads nowhere, and that
// what only looks at metrics is not in it.
func apart(t *testing.T, e *engine) {
	t.Helper()
	for _, c := range e.containers(t) {
		for network := range c.NetworkSettings.Networks {
			switch {
			case strings.HasSuffix(network, "_data"):
				require.NotContains(t, []string{"prometheus", "grafana"}, c.service())
			case strings.HasSuffix(network, "_edge"):
				require.NotContains(t, []string{"nats", "redis", "postgres", "setup"}, c.service())
			}
		}
	}
	// Not by its gateway: engines before 23 give one to a network that leads nowhere, too.
	require.Equal(t, "true", strings.TrimSpace(e.must(t, e.docker, "network", "inspect", "--format", "{{.Internal}}", project+"_data")))
}

// permitted checks that no service was denied what it needs: the rights of each are enough.
func permitted(t *testing.T, e *engine) {
	t.Helper()
	for _, c := range e.containers(t) {
		if slices.Contains([]string{"nats", "redis", "postgres"}, c.service()) {
			continue // they tell of the strangers
		}
		said, err := exec.Command(e.docker, "logs", c.ID).CombinedOutput()
		require.NoError(t, err)
		for _, denial := range []string{"broker denies a subject", "NOPERM", "permission denied", "Violation"} {
			require.NotContains(t, string(said), denial, "%s: %s", c.Name, said)
		}
	}
}

// strangers checks that a client without a user is turned away by each server, as is one
// without TLS.
func strangers(t *testing.T, e *engine) {
	t.Helper()
	ctx := t.Context()
	unnamed := &tls.Config{InsecureSkipVerify: true} // the question is what the server does
	address := net.JoinHostPort(e.one(t, "nats").address(), "4222")
	for _, o := range [][]nats.Option{nil, {nats.UserInfo("ingress", "ingress")}} {
		_, err := nats.Connect("tls://"+address, append(o, nats.Secure(unnamed))...)
		require.ErrorIs(t, err, nats.ErrAuthorization)
	}

	server := net.JoinHostPort(e.one(t, "redis").address(), "6379")
	for name, o := range map[string]*redis.Options{
		"NOAUTH":    {Addr: server, TLSConfig: unnamed},
		"WRONGPASS": {Addr: server, TLSConfig: unnamed, Username: "processor", Password: "ledgerfeed"},
		"":          {Addr: server, DialTimeout: 2 * time.Second, ReadTimeout: 2 * time.Second, MaxRetries: -1},
	} {
		c := redis.NewClient(o)
		require.ErrorContains(t, c.Get(ctx, "lf:1:sinks").Err(), name)
		require.NoError(t, c.Close())
	}

	database := net.JoinHostPort(e.one(t, "postgres").address(), "5432")
	for name, text := range map[string]string{
		"28P01": "postgres://postgres:postgres@" + database + "/books?sslmode=require",
		"28000": "postgres://ledgerfeed:" + e.word(t, "postgres_writer_password") + "@" + database + "/books?sslmode=disable",
	} {
		_, err := pgx.Connect(ctx, text)
		require.ErrorContains(t, err, name)
	}
	conn, err := pgx.Connect(ctx, e.database(t))
	require.NoError(t, err)
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "DELETE FROM ledgerfeed.entity")
	require.ErrorContains(t, err, "42501")
}

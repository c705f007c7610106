package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
)

// Every secret is replaced while changes flow: the server takes the new one only, the
// connections that were made with the old one are cut, and the mounted file follows. No
// service restarts, and nothing is lost.
func TestContainers_SecretsAreReplacedWhileChangesFlow(t *testing.T) {
	t.Parallel()
	f := newGuardedFeed(t, "127.0.0.1")
	f.connect()
	f.start()
	f.ready()
	stop := f.change()
	f.whole()

	reloaded := func(service, key string) {
		t.Helper()
		require.Eventually(t, func() bool { return f.said(service, "settings reloaded", key) == 1 }, 20*time.Second, 20*time.Millisecond, "%s: %s", service, key)
	}
	f.servers.SetRedisPassword("second-password")
	f.set("redis", f.servers.RedisURL("second-password"))
	for _, service := range []string{"processor", "reconciler", "console"} {
		reloaded(service, "redis.url")
	}
	f.whole()

	f.servers.SetNATSPassword("third-password")
	f.set("nats", "third-password")
	for _, service := range []string{"ingress", "processor", "reconciler", "console"} {
		reloaded(service, "nats.password")
	}
	f.whole()

	f.servers.SetPostgresPassword("fourth-password")
	f.set("sinks", "postgres:"+f.servers.PostgresURL("fourth-password"))
	reloaded("processor", "processor.sinks")
	f.whole()

	// A file that is empty for a moment leaves what was there.
	f.set("client-secret", "")
	require.Eventually(t, func() bool { return f.said("processor", "the old ones stay") == 1 }, 20*time.Second, 20*time.Millisecond)
	f.app.Store("second-client-secret")
	f.set("client-secret", "second-client-secret")
	reloaded("processor", "qbo.client_secret")
	reloaded("reconciler", "qbo.client_secret")
	f.set("keys", ringKey("k2")+","+ringKey("k1"))
	reloaded("processor", "connection.keys")
	reloaded("reconciler", "connection.keys")
	granted := f.granted.Load()
	f.sim.ExpireAccess(guardedRealm)
	require.Eventually(t, func() bool { return f.granted.Load() > granted }, patience, 20*time.Millisecond, "the new client secret asks for tokens")
	connections := f.connections()
	require.Eventually(t, func() bool {
		page, err := connections.Page(t.Context(), connection.Query{Limit: 1})
		return err == nil && len(page.Realms) == 1 && page.Realms[0].Key == "k2"
	}, patience, 20*time.Millisecond, "the new key seals the token")

	stop()
	f.whole()
	for name, p := range f.running {
		for _, hush := range []string{"first-", "second-", "third-", "fourth-", ringKey("k1")[3:]} {
			require.NotContains(t, p.stderr.String(), hush, name)
		}
	}
	_, metrics := f.probe("processor", "/metrics")
	require.Contains(t, metrics, `ledgerfeed_settings_reloads_total{outcome="refused"} 1`)
}

// All listens on and connects to the loopback address of IPv6 alone.
func TestContainers_IPv6Only(t *testing.T) {
	t.Parallel()
	f := newGuardedFeed(t, "::1")
	f.connect()
	f.start()
	f.ready()
	stop := f.change()
	f.whole()
	require.Contains(t, f.running["console"].stdout.String(), "http://"+f.listen["console"])
	require.True(t, strings.HasPrefix(f.listen["console"], "[::1]:"))
	resp, err := http.Get("http://" + f.listen["console"] + "/login")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
	stop()
	f.whole()
}

// livenessBudget is how long a probe of the manifests waits before it restarts a pod.
func livenessBudget(t *testing.T, service string) time.Duration {
	t.Helper()
	manifest, err := os.ReadFile("../../../deploy/k8s/base/" + service + ".yaml")
	require.NoError(t, err)
	_, probe, ok := strings.Cut(string(manifest), "livenessProbe:")
	require.True(t, ok)
	probe, _, _ = strings.Cut(probe, "resources:")
	number := func(name string, otherwise int) int {
		m := regexp.MustCompile(name + `: (\d+)`).FindStringSubmatch(probe)
		if m == nil {
			return otherwise
		}
		n, err := strconv.Atoi(m[1])
		require.NoError(t, err)
		return n
	}
	return time.Duration(number("initialDelaySeconds", 0)+number("periodSeconds", 10)*number("failureThreshold", 3)) * time.Second
}

// Redis, NATS, PostgreSQL and Intuit are away for longer than a liveness probe waits: when the
// services start, and while they run. None ends, /livez says that they live, /readyz what
// is missing, and they go on by themselves.
func TestContainers_NoOutageRestartsAPod(t *testing.T) {
	t.Parallel()
	f := newGuardedFeed(t, "127.0.0.1")
	f.connect()
	f.away.Store(true)
	f.servers.Stop()
	f.start()
	f.outlive("redis", "nats")

	f.servers.StartRedisAndNATS()
	f.ready()
	require.Eventually(t, func() bool {
		_, body := f.probe("processor", "/readyz")
		return strings.Contains(body, `"sink postgres":"not reached since the start`)
	}, 10*time.Second, 50*time.Millisecond)
	f.servers.Start()
	f.away.Store(false)
	stop := f.change()
	f.whole()
	_, body := f.probe("processor", "/readyz")
	require.NotContains(t, body, "sink postgres")

	f.away.Store(true)
	f.servers.Stop()
	f.outlive("redis", "NATS")
	f.servers.Start()
	f.away.Store(false)
	f.ready()
	stop()
	f.whole()
}

// outlive probes for as long as the manifests have the kubelet wait, and a little longer.
// /readyz has to name the missing servers in the end.
func (f *guardedFeed) outlive(missing ...string) {
	f.t.Helper()
	for name := range strings.FieldsSeq(services) {
		require.Eventually(f.t, func() bool { status, _ := f.probe(name, "/livez"); return status == http.StatusOK }, 10*time.Second, 20*time.Millisecond, name)
	}
	var budget time.Duration
	for name := range strings.FieldsSeq(services) {
		budget = max(budget, livenessBudget(f.t, name))
	}
	failed := ""
	require.Never(f.t, func() bool {
		for name, p := range f.running {
			if status, body := f.probe(name, "/livez"); p.over() || status != http.StatusOK {
				failed = fmt.Sprint(name, " ", status, " ", body)
			}
		}
		return failed != ""
	}, budget+2*time.Second, time.Second, "%s", lazy(func() string { return failed }))
	for name := range strings.FieldsSeq(services) {
		status, body := f.probe(name, "/readyz")
		require.Equal(f.t, http.StatusServiceUnavailable, status, name)
		for _, what := range missing {
			if what == "redis" && name == "ingress" {
				continue // it does not use Redis
			}
			require.Contains(f.t, body, what, name)
		}
	}
}

package stream_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

func TestDurability_ComparesTheProfileWithTheBroker(t *testing.T) {
	junk := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"server_name":"ledgerfeed-dev"}`))
	}))
	t.Cleanup(junk.Close)
	for _, tc := range []struct {
		name     string
		always   bool
		profile  stream.Profile
		monitor  string // the server's own, unless named
		problems []string
		sync     string
	}{
		{name: "single, synced", always: true, profile: stream.Single, sync: "always"},
		{name: "single, not synced", profile: stream.Single, sync: "2m0s", problems: []string{"server ledgerfeed-dev has sync_interval 2m0s instead of always"}},
		{name: "single, does not say", always: true, profile: stream.Single, monitor: "http://127.0.0.1:1", problems: []string{
			"server ledgerfeed-dev did not say its sync_interval: set nats.monitor_url", "monitoring endpoint http://127.0.0.1:1: dial tcp",
		}},
		{name: "single, something else answers", always: true, profile: stream.Single, monitor: junk.URL, problems: []string{
			"did not say its sync_interval", "is not the answer of a nats-server with JetStream",
		}},
		{name: "relaxed promises nothing", profile: stream.SingleRelaxed, sync: "2m0s"},
		{name: "relaxed need not say", profile: stream.SingleRelaxed, monitor: "http://127.0.0.1:1"},
		{name: "the embedded one is not asked", profile: stream.Dev, monitor: "http://127.0.0.1:1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server, err := devserver.StartNATS(devserver.NATSOptions{Dir: t.TempDir(), SyncAlways: tc.always, Monitor: true})
			require.NoError(t, err)
			t.Cleanup(server.Close)
			if tc.monitor == "" {
				tc.monitor = server.MonitorURL()
			}
			registry := prometheus.NewRegistry()
			open := func(allow bool) *stream.Conn {
				o := stream.Options{Config: config(server.URL(), func(c *stream.Config) {
					c.Profile, c.MonitorURL, c.AllowMismatch = tc.profile, tc.monitor, allow
				})}
				if allow {
					o.Registerer = registry
				}
				c, err := stream.Connect(t.Context(), o)
				require.NoError(t, err)
				t.Cleanup(c.Close)
				require.NoError(t, c.EnsureTopology(t.Context()))
				return c
			}
			d, err := open(false).RequireDurability(t.Context())
			require.Len(t, d.Servers, 1)
			s := d.Servers[0]
			require.Equal(t, tc.sync != "", s.StoreLimit > 0, s)
			s.Stored, s.StoreLimit = 0, 0
			require.Equal(t, stream.Server{Name: "ledgerfeed-dev", Version: s.Version, Sync: tc.sync}, s)
			require.Len(t, d.Problems, len(tc.problems), d.Problems)
			if len(tc.problems) == 0 {
				require.NoError(t, err)
				require.Equal(t, "as the profile promises", d.Describe()["durability"])
			} else {
				var mismatch *stream.MismatchError
				require.ErrorAs(t, err, &mismatch)
				require.ErrorContains(t, err, "nats.allow_mismatch")
				for i, want := range tc.problems {
					require.Contains(t, d.Problems[i], want)
				}
			}

			d, err = open(true).RequireDurability(t.Context())
			require.NoError(t, err, "the flag allows it")
			ok := 0
			if len(tc.problems) == 0 {
				ok = 1
			} else {
				require.Contains(t, d.Describe()["durability"], "allowed: ")
			}
			require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP ledgerfeed_stream_durable 1 if the broker keeps what the profile promises, 0 if it keeps less or does not say and that was allowed.
# TYPE ledgerfeed_stream_durable gauge
ledgerfeed_stream_durable{profile="`+string(tc.profile)+`"} `+string(rune('0'+ok))+"\n"), "ledgerfeed_stream_durable"))
		})
	}
}

// The stream was made for one replica, and now three are promised.
func TestDurability_FewerReplicasThanPromised(t *testing.T) {
	b := setup(t)
	c := connect(t, b.url, func(c *stream.Config) { c.Profile = stream.Cluster })
	require.ErrorContains(t, c.EnsureTopology(t.Context()), "num_replicas is 1 on the server, but 3 is configured")
	d, err := c.RequireDurability(t.Context())
	require.Error(t, err)
	require.Contains(t, d.Problems[0], "stream LF_EVENTS has 1 replicas instead of 3")

	c = connect(t, b.url, func(c *stream.Config) { c.Profile, c.AllowMismatch = stream.Cluster, true })
	require.NoError(t, c.EnsureTopology(t.Context()))
	_, err = c.RequireDurability(t.Context())
	require.NoError(t, err)
}

// A process that starts while one of three servers is down starts: what is
// acknowledged meanwhile is kept by the other two.
func TestDurability_OneOfThreeIsDown(t *testing.T) {
	cluster := devtest.StartNATSCluster(t)
	c := connect(t, cluster.URL(), func(c *stream.Config) { c.Profile, c.MonitorURL = stream.Cluster, cluster.MonitorURL() })
	require.NoError(t, c.EnsureTopology(t.Context()))
	d, err := c.RequireDurability(t.Context())
	require.NoError(t, err)
	require.Len(t, d.Servers, devtest.NATSServers)
	cluster.Stop(2)
	require.Eventually(t, func() bool {
		d, err = c.RequireDurability(t.Context())
		return err == nil
	}, time.Minute, 100*time.Millisecond, "%v", err)
	require.Len(t, d.Servers, devtest.NATSServers)
	require.True(t, d.Servers[2].Offline)
	require.Contains(t, d.Describe()["servers"], "unknown, it is offline")
}

// A server whose endpoint is not there yet is asked again; one that never answers,
// and that the others hear of, is a wrong configuration.
func TestDurability_WaitsForAServerThatStarts(t *testing.T) {
	cluster := devtest.StartNATSCluster(t)
	endpoints := strings.Split(cluster.MonitorURL(), ",")
	last, err := url.Parse(endpoints[2])
	require.NoError(t, err)
	proxy := httputil.NewSingleHostReverseProxy(last)
	var asked atomic.Int64
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(slow.Close)
	monitor := func(third string) string { return strings.Join([]string{endpoints[0], endpoints[1], third}, ",") }
	c := connect(t, cluster.URL(), func(c *stream.Config) { c.Profile, c.MonitorURL = stream.Cluster, monitor(slow.URL) })
	require.NoError(t, c.EnsureTopology(t.Context()))
	d, err := c.RequireDurability(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, asked.Load())
	require.Equal(t, "always", d.Servers[2].Sync)
	require.False(t, d.Servers[2].Offline)

	c = connect(t, cluster.URL(), func(c *stream.Config) { c.Profile, c.MonitorURL = stream.Cluster, monitor("http://127.0.0.1:1") })
	_, err = c.RequireDurability(t.Context())
	var mismatch *stream.MismatchError
	require.ErrorAs(t, err, &mismatch)
	require.ErrorContains(t, err, "did not say its sync_interval")
}

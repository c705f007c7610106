package docs_test

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/backend"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/reload"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/ingress"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/console"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
	"github.com/ledgerfeed/ledgerfeed/services/reconciler"
)

const metricsIntro = `# Metrics

<!-- Made from what the services register by make generate; do not edit. -->

Each service serves its metrics for Prometheus under /metrics at ` + "`admin.listen`" + `, beside the usual
ones of the Go runtime and the process. Labels are bounded: none holds a company, a record or foreign
text. What to alert on and what to do: [operations.md](operations.md#alerts).
`

// metric is one as it is registered.
type metric struct{ name, help, labels string }

// recorder is a registry that also keeps what it is given.
type recorder struct {
	*prometheus.Registry
	metrics []metric
}

func newRecorder() *recorder { return &recorder{Registry: prometheus.NewRegistry()} }

func (r *recorder) MustRegister(all ...prometheus.Collector) {
	for _, c := range all {
		if err := r.Register(c); err != nil {
			panic(err)
		}
	}
}

var description = regexp.MustCompile(`fqName: "([^"]*)", help: "((?:[^"\\]|\\.)*)", (?:unit: "[^"]*", )?constLabels: \{(.*)\}, variableLabels: \{([^}]*)\}`)

func (r *recorder) Register(c prometheus.Collector) error {
	descs := make(chan *prometheus.Desc, 100)
	c.Describe(descs)
	close(descs)
	for d := range descs {
		m := description.FindStringSubmatch(d.String())
		if m == nil {
			return fmt.Errorf("metric %s: not understood", d)
		}
		labels := m[4]
		for _, l := range strings.Split(m[3], ",") {
			if name, _, ok := strings.Cut(l, "="); ok {
				labels = strings.Trim(labels+","+name, ",")
			}
		}
		r.metrics = append(r.metrics, metric{m[1], strings.ReplaceAll(m[2], `\"`, `"`), strings.ReplaceAll(labels, ",", ", ")})
	}
	return r.Registry.Register(c)
}

type noPublisher struct{ ingress.Publisher }

// registered are the metrics of every service, as it makes them.
func registered(t *testing.T) map[string][]metric {
	t.Helper()
	redis, nats := devtest.Redis(t), devtest.NATS(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	all := map[string][]metric{}

	in := newRecorder()
	cfg := ingress.DefaultIngressConfig()
	cfg.Apps = "production=verifier-token-1"
	_, err := ingress.New(ingress.Options{Config: cfg, Publisher: noPublisher{}, Registerer: in})
	require.NoError(t, err)
	all["ingress"] = in.metrics

	broker := newRecorder()
	nc := stream.DefaultConfig()
	nc.URL, nc.Profile = nats, stream.Dev
	conn, err := stream.Connect(ctx, stream.Options{Config: nc, Name: "docs", Registerer: broker})
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, reload.Fixed(cfg).Register(broker))
	all["ingress, processor, reconciler"] = broker.metrics

	b := backend.DefaultConfig()
	b.NATS, b.Redis.URL, b.Admin.Listen = nc, secret.String(redis), "off"
	b.QBO.ClientID, b.QBO.ClientSecret = "id", "hush"
	b.Connection.Keys = []secret.String{secret.String("test:" + base64.StdEncoding.EncodeToString(make([]byte, 32)))}
	err = backend.Start(ctx, "docs", reload.Fixed(b), io.Discard, func(b *backend.Backend) (func(context.Context) error, error) {
		families, err := b.Registry.Gather()
		if err != nil {
			return nil, err
		}
		for _, f := range families {
			if !strings.HasPrefix(f.GetName(), "ledgerfeed_") || strings.HasPrefix(f.GetName(), "ledgerfeed_stream_") || strings.HasPrefix(f.GetName(), "ledgerfeed_settings_") {
				continue
			}
			var labels []string
			for _, l := range f.GetMetric()[0].GetLabel() {
				labels = append(labels, l.GetName())
			}
			all["processor, reconciler"] = append(all["processor, reconciler"], metric{f.GetName(), f.GetHelp(), strings.Join(labels, ", ")})
		}
		pro, rec := newRecorder(), newRecorder()
		sink := processor.HandlerSink("docs", nil)
		if _, err := processor.New(processor.Options{
			Config: processor.DefaultProcessorConfig(), Stream: b.Stream, State: b.State, QBO: b.QBO, Connections: b.Connections,
			Sinks: []processor.Sink{sink}, Registerer: pro,
		}); err != nil {
			return nil, err
		}
		all["processor"] = pro.metrics
		_, err = reconciler.New(reconciler.Options{
			Config: reconciler.DefaultReconcilerConfig(), Stream: b.Stream, State: b.State, QBO: b.QBO, Connections: b.Connections, Registerer: rec,
		})
		if err != nil {
			return nil, err
		}
		all["reconciler"] = rec.metrics
		con := newRecorder()
		cc := console.DefaultConsoleConfig()
		cc.Listen = "127.0.0.1:0"
		server, err := console.New(console.Options{
			Config: cc, State: b.State, Stream: b.Stream, Connections: b.Connections, QBO: b.QBO, Budget: b.Budget, Registerer: con,
		})
		if err != nil {
			return nil, err
		}
		all["console"] = con.metrics
		cancel()
		return server.Run, nil
	})
	require.NoError(t, err)
	return all
}

func metricsPage(all map[string][]metric) string {
	var b strings.Builder
	b.WriteString(metricsIntro)
	for _, service := range []string{"ingress", "processor", "reconciler", "console", "processor, reconciler", "ingress, processor, reconciler"} {
		fmt.Fprintf(&b, "\n## %s\n| metric | labels | meaning |\n|---|---|---|\n", strings.ToUpper(service[:1])+service[1:])
		metrics := slices.Clone(all[service])
		slices.SortFunc(metrics, func(x, y metric) int { return cmp.Compare(x.name, y.name) })
		for _, m := range slices.Compact(metrics) {
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", m.name, m.labels, m.help)
		}
	}
	return b.String()
}

func TestMetrics_PageIsCurrent(t *testing.T) {
	name := filepath.Join(root, "docs", "metrics.md")
	want := metricsPage(registered(t))
	if *update {
		require.NoError(t, os.WriteFile(name, []byte(want), 0o644))
	}
	got, err := os.ReadFile(name)
	require.NoError(t, err)
	if diff := gocmp.Diff(want, string(got)); diff != "" {
		t.Fatalf("docs/metrics.md is out of date, run make generate (-want +got):\n%s", diff)
	}
}

func TestMetrics_EachSaysWhatItMeans(t *testing.T) {
	for service, metrics := range registered(t) {
		require.NotEmpty(t, metrics, service)
		for _, m := range metrics {
			require.Regexp(t, `^ledgerfeed_[a-z_]+$`, m.name)
			require.NotEmpty(t, m.help, m.name)
			require.NotRegexp(t, `realm|entity_id|company`, m.labels, "%s: a label without a bound", m.name)
		}
	}
}

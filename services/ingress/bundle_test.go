package ingress_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
	"github.com/ledgerfeed/ledgerfeed/services/ingress"
)

func TestMain(m *testing.M) {
	// What a nats-server of these tests leaves behind at times when it is stopped
	// in the middle of something: nothing of ours runs in them.
	broker := "github.com/nats-io/nats-server/v2/server"
	goleak.VerifyTestMain(m,
		goleak.IgnoreTopFunction(broker+"/ats.Register.func1"),
		goleak.IgnoreTopFunction(broker+".(*fileStore).flushStreamStateLoop"),
		goleak.IgnoreTopFunction(broker+".(*msgBlock).flushLoop"),
	)
}

const (
	oldToken   = secret.String("token-old-7f3a-0001-0001")
	newToken   = secret.String("token-new-91cc-0002-0002")
	otherToken = secret.String("token-other-02be-03-03")
	apps       = secret.String("demo=token-old-7f3a-0001-0001,token-new-91cc-0002-0002; other=token-other-02be-03-03")
)

var now = time.Date(2026, 11, 23, 10, 20, 30, 400_000_000, time.UTC)

// bundle is a running ingress on a broker of its own.
type bundle struct {
	t        testing.TB
	server   *ingress.Server
	conn     *stream.Conn   // the one the ingress uses
	proxy    *devtest.Proxy // in front of the broker, for the ingress
	direct   *stream.Conn   // past the proxy
	client   *http.Client
	registry *prometheus.Registry
	logs     *observer.ObservedLogs
	stop     context.CancelFunc
	ended    chan error
}

type setting func(*ingress.Options)

func configured(change func(*ingress.IngressConfig)) setting {
	return func(o *ingress.Options) { change(&o.Config) }
}

// publishingTo replaces the broker.
func publishingTo(p func(ingress.Publisher) ingress.Publisher) setting {
	return func(o *ingress.Options) { o.Publisher = p(o.Publisher) }
}

func setup(t testing.TB, settings ...setting) *bundle {
	t.Helper()
	return setupOn(t, devtest.NATS(t), nil, settings...)
}

// setupOn is setup on a broker of the test's.
func setupOn(t testing.TB, broker string, change func(*stream.Config), settings ...setting) *bundle {
	t.Helper()
	b := prepare(t, broker, change, settings...)
	b.run()
	return b
}

// prepare is a bundle that does not run yet. A cluster, several addresses, has no
// proxy in front.
func prepare(t testing.TB, broker string, change func(*stream.Config), settings ...setting) *bundle {
	t.Helper()
	b := &bundle{t: t, registry: prometheus.NewRegistry(), ended: make(chan error, 1)}
	b.direct = connect(t, broker, nil, change)
	if strings.Contains(broker, ",") {
		b.conn = connect(t, broker, b.registry, change)
	} else {
		u, err := url.Parse(broker)
		require.NoError(t, err)
		b.proxy = devtest.NewProxy(t, u.Host)
		b.conn = connect(t, "nats://"+b.proxy.Addr(), b.registry, change)
	}
	require.NoError(t, b.conn.EnsureTopology(t.Context()))

	core, logs := observer.New(zapcore.DebugLevel)
	b.logs = logs
	o := ingress.Options{
		Config: ingress.DefaultIngressConfig(), Publisher: b.conn, Ready: b.conn.Ready,
		Logger: zap.New(core), Registerer: b.registry, Now: func() time.Time { return now },
	}
	o.Config.Listen, o.Config.Apps = "127.0.0.1:0", apps
	for _, set := range settings {
		set(&o)
	}
	var err error
	b.server, err = ingress.New(o)
	require.NoError(t, err)
	b.client = &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second}
	return b
}

func (b *bundle) run() {
	b.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	b.stop = stop
	go func() { b.ended <- b.server.Run(ctx) }()
	b.t.Cleanup(func() {
		b.client.CloseIdleConnections()
		require.NoError(b.t, b.end())
	})
}

// end stops the server once and returns what Run did.
func (b *bundle) end() error {
	b.stop()
	select {
	case err := <-b.ended:
		b.ended <- err // for the next call
		return err
	case <-time.After(30 * time.Second):
		return errors.New("Run did not return")
	}
}

func connect(t testing.TB, url string, registry prometheus.Registerer, change func(*stream.Config)) *stream.Conn {
	t.Helper()
	c := stream.DefaultConfig()
	c.URL, c.Profile = url, stream.Dev
	for _, size := range []*int64{&c.EventsMaxBytes, &c.RetryMaxBytes, &c.DeadMaxBytes, &c.ChangesMaxBytes} {
		*size = 256 << 20
	}
	if change != nil {
		change(&c)
	}
	conn, err := stream.Connect(t.Context(), stream.Options{Config: c, Name: t.Name(), Registerer: registry})
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	return conn
}

// answer is what matters of a response.
type answer struct {
	status int
	header http.Header
	body   string
	closed bool // the server closes the connection
	took   time.Duration
}

func (b *bundle) send(req *http.Request) (answer, error) {
	started := time.Now()
	resp, err := b.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(body), resp.Close, time.Since(started)}, err
}

// post sends a body to the app demo, signed with a token (empty: unsigned).
func (b *bundle) post(body []byte, token secret.String) answer {
	b.t.Helper()
	a, err := b.send(b.request(body, token))
	require.NoError(b.t, err)
	return a
}

func (b *bundle) request(body []byte, token secret.String) *http.Request {
	b.t.Helper()
	req, err := http.NewRequest(http.MethodPost, "http://"+b.server.Addr()+"/webhooks/demo", strings.NewReader(string(body)))
	require.NoError(b.t, err)
	if token != "" {
		req.Header.Set(webhook.SignatureHeader, webhook.Sign(body, token))
	}
	return req
}

// stored is how many envelopes the broker has.
func (b *bundle) stored() int {
	b.t.Helper()
	lag, err := b.direct.Lag(b.t.Context(), stream.Events, "test")
	require.NoError(b.t, err)
	return int(lag.Stored)
}

// takes waits for n envelopes, takes them off the stream and returns them.
func (b *bundle) takes(n int) []*ledgerfeedv1.Envelope {
	b.t.Helper()
	require.Equal(b.t, n, b.stored(), "envelopes on the stream")
	if n == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(b.t.Context(), 20*time.Second)
	defer cancel()
	var envs []*ledgerfeedv1.Envelope
	var failed error
	err := b.direct.Consume(ctx, stream.ConsumeOptions{Queue: stream.Events, Durable: "test"}, func(m *stream.Message) {
		env, err := m.Envelope()
		failed = errors.Join(failed, err, m.Ack(ctx))
		if envs = append(envs, env); len(envs) == n {
			cancel()
		}
	})
	require.NoError(b.t, err)
	require.NoError(b.t, failed)
	require.Len(b.t, envs, n)
	return envs
}

// letters are the dead letters, oldest first.
func (b *bundle) letters() []stream.DeadLetter {
	b.t.Helper()
	newest, err := b.direct.DeadLetters(b.t.Context(), 1000)
	require.NoError(b.t, err)
	var oldest []stream.DeadLetter
	for i := len(newest) - 1; i >= 0; i-- {
		oldest = append(oldest, newest[i])
	}
	return oldest
}

// requests is the counter of an outcome.
func (b *bundle) requests(app, outcome string) float64 {
	b.t.Helper()
	return b.metric("ledgerfeed_ingress_requests_total", "app", app, "outcome", outcome)
}

func (b *bundle) metric(name string, labels ...string) float64 {
	b.t.Helper()
	families, err := b.registry.Gather()
	require.NoError(b.t, err)
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			got := []string{}
			for _, l := range m.GetLabel() {
				got = append(got, l.GetName(), l.GetValue())
			}
			if fmt.Sprint(got) == fmt.Sprint(append([]string{}, labels...)) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return 0
}

// idle waits until no request is in hand and no memory reserved.
func (b *bundle) idle() {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		return b.metric("ledgerfeed_ingress_in_flight") == 0 && b.metric("ledgerfeed_ingress_in_flight_bytes") == 0
	}, 10*time.Second, 2*time.Millisecond)
}

// event is a body of one event.
func event(realm, id string) []byte {
	return []byte(fmt.Sprintf(`[{"specversion":"1.0","id":"%[1]s-%[2]s","source":"intuit.x","type":"qbo.invoice.updated.v1",`+
		`"time":"2026-11-23T10:20:29.123Z","intuitentityid":"%[2]s","intuitaccountid":"%[1]s","data":{}}]`, realm, id))
}

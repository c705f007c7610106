package processor_test

import (
	"context"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/processor"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

func TestMain(m *testing.M) {
	beChild()
	// Before flags are parsed, so that the command line can ask for more.
	if err := flag.Set("rapid.checks", "15"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

const (
	realm   = "9130347712345678"
	other   = "9130347787654321"
	patient = 30 * time.Second // a bound for what must happen
)

// clock is Intuit's and ours.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// bundle is a QuickBooks with one connected realm, the servers between, and a
// processor of two sinks that is not started yet.
type bundle struct {
	t             testing.TB
	clock         *clock
	sim           *qbosim.Sim
	api           *httptest.Server
	broken        atomic.Pointer[func(*http.Request) bool]                      // requests the server fails on
	respond       atomic.Pointer[func(http.ResponseWriter, *http.Request) bool] // responds in place of QuickBooks, or returns false
	hooks         *inbox
	redisURL      string
	natsURL       string
	store         *state.Store
	conn          *stream.Conn
	connections   *connection.Store
	client        *qbo.Client
	config        processor.ProcessorConfig
	behindAfter   time.Duration
	rememberEvery time.Duration // how often Redis is asked what it has forgotten, 100 ms at least
	accessDelay   time.Duration // see SetAccessDelay
	waitAfter     int           // tries before a message steps aside; 0 as the program has it
	refusals      int           // tries of a refusal before the dead letter, at least an hour of them if late; 0 as the program has it
	late          bool
	a, b          *memory
	registry      *prometheus.Registry
}

// setup makes one, with streams that change may make smaller.
func setup(t testing.TB, change ...func(*stream.Config)) *bundle {
	t.Helper()
	b := &bundle{
		t: t, clock: &clock{now: time.Date(2026, 11, 2, 9, 0, 0, 123e6, time.UTC)},
		config: processor.DefaultProcessorConfig(), a: newMemory("a"), b: newMemory("b"),
	}
	b.config.AckWait, b.config.CoalesceWindow = 2*time.Second, 5*time.Millisecond
	b.startQuickBooks()
	b.redisURL, b.natsURL = devtest.Redis(t), devtest.NATS(t)
	b.store = b.openState(b.redisURL)
	b.conn = b.dial(b.natsURL, change...)
	require.NoError(t, b.conn.EnsureTopology(t.Context()))
	b.connections = b.openConnections(b.store)
	b.client = b.newClient(b.connections, b.store)
	b.connect(realm)
	return b
}

func (b *bundle) startQuickBooks() {
	b.t.Helper()
	b.hooks = &inbox{t: b.t, clock: b.clock}
	b.hooks.server = httptest.NewServer(b.hooks)
	b.t.Cleanup(b.hooks.server.Close)
	var err error
	b.sim, err = qbosim.New(qbosim.Options{
		Seed: 7, Now: b.clock.Now, ClientID: "app", ClientSecret: "hush", VerifierToken: "verifier",
		WebhookURL: b.hooks.server.URL, Format: qbosim.Mixed,
		Limits: qbosim.Limits{PerMinute: 1 << 20, Concurrent: 1 << 10},
	})
	require.NoError(b.t, err)
	b.api = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if broken := b.broken.Load(); broken != nil && (*broken)(r) {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		if respond := b.respond.Load(); respond != nil && (*respond)(w, r) {
			return
		}
		b.sim.Handler().ServeHTTP(w, r)
	}))
	b.t.Cleanup(func() {
		b.api.Close()
		require.NoError(b.t, b.sim.Close())
	})
}

func (b *bundle) openState(url string) *state.Store {
	b.t.Helper()
	store, err := state.Open(b.t.Context(), state.Options{Config: state.Config{URL: secret.String(url)}, Now: b.clock.Now})
	require.NoError(b.t, err)
	b.t.Cleanup(func() { store.Close() })
	return store
}

func (b *bundle) dial(url string, change ...func(*stream.Config)) *stream.Conn {
	b.t.Helper()
	cfg := stream.DefaultConfig()
	cfg.URL, cfg.Profile = url, "dev"
	for _, f := range change {
		f(&cfg)
	}
	conn, err := stream.Connect(b.t.Context(), stream.Options{Config: cfg, Name: "test"})
	require.NoError(b.t, err)
	b.t.Cleanup(conn.Close)
	return conn
}

func (b *bundle) openConnections(store *state.Store, log ...*zap.Logger) *connection.Store {
	b.t.Helper()
	oauth, err := qbo.NewOAuth(qbo.OAuthOptions{ClientID: "app", ClientSecret: "hush", TokenURL: b.api.URL + "/oauth2/v1/tokens/bearer", Now: b.clock.Now})
	require.NoError(b.t, err)
	key := secret.String("test:" + base64.StdEncoding.EncodeToString(make([]byte, 32)))
	options := connection.Options{State: store, Config: connection.Config{Keys: []secret.String{key}}, Refresher: oauth, Now: b.clock.Now}
	if len(log) > 0 {
		options.Logger = log[0]
	}
	connections, err := connection.New(options)
	require.NoError(b.t, err)
	return connections
}

// unlimited is a limit that no test comes near, but counts.
var unlimited = state.LimitConfig{PerMinute: 1e6, Burst: 1000, PerSecond: 1e6, Concurrency: 100}

func (b *bundle) newClient(connections *connection.Store, store *state.Store) *qbo.Client {
	b.t.Helper()
	client, err := qbo.New(qbo.Options{BaseURL: b.api.URL, Tokens: connections, Limiter: store.Limiter(unlimited)})
	require.NoError(b.t, err)
	return client
}

// connect makes a realm and the connection to it.
func (b *bundle) connect(realm string) {
	b.t.Helper()
	b.sim.AddRealm(realm)
	b.grant(realm, b.clock.Now())
	// A reconciler has loaded the company, and found no custom fields beyond the third.
	require.NoError(b.t, b.store.NoteFieldsProbed(b.t.Context(), realm, b.clock.Now()))
}

// grant gives us new tokens, of which the access token lasts an hour from now on.
func (b *bundle) grant(realm string, now time.Time) {
	b.t.Helper()
	access, refresh := b.sim.Connect(realm)
	require.NoError(b.t, b.connections.Connect(b.t.Context(), realm, "app", qbo.Token{
		Access: access, Refresh: refresh, AccessExpires: now.Add(time.Hour),
		RefreshExpires: now.Add(100 * 24 * time.Hour), RefreshHardExpires: now.Add(5 * 365 * 24 * time.Hour),
	}))
}

// running is a processor that runs until the test ends or it is stopped.
type running struct {
	*processor.Processor
	stop func()
}

func (b *bundle) options() processor.Options {
	b.registry = prometheus.NewRegistry()
	return processor.Options{
		Config: b.config, Stream: b.conn, State: b.store, QBO: b.client, Connections: b.connections,
		Sinks: []processor.Sink{b.a, b.b}, Registerer: b.registry, Now: b.clock.Now,
		Logger: zaptest.NewLogger(b.t, zaptest.Level(zapcore.WarnLevel)),
	}
}

func (b *bundle) start() running { return b.run(b.options()) }

func (b *bundle) run(o processor.Options) running {
	b.t.Helper()
	p, err := processor.New(o)
	require.NoError(b.t, err)
	p.SetPatience(time.Millisecond, 4)
	p.SetRememberEvery(max(b.rememberEvery, 100*time.Millisecond))
	if b.waitAfter > 0 {
		p.SetWaitAfter(b.waitAfter)
	}
	if b.refusals > 0 {
		p.SetRefusals(b.refusals, map[bool]time.Duration{true: time.Hour}[b.late])
	}
	p.SetAccessDelay(b.accessDelay)
	p.SetBehind(50*time.Millisecond, b.behindAfter)
	p.SetRoomDelay(50 * time.Millisecond)
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			b.t.Errorf("run: %v", err)
		}
	})
	b.t.Cleanup(stop)
	return running{p, stop}
}

// settle waits until nothing is left to do.
func (b *bundle) settle(p running) {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		idle, err := p.Idle(b.t.Context())
		return err == nil && idle
	}, patient, 5*time.Millisecond, "the processor does not come to rest")
}

func (b *bundle) create(name string, fields map[string]any) qbosim.Ref {
	b.t.Helper()
	ref, err := b.sim.Create(realm, name, fields)
	require.NoError(b.t, err)
	return ref
}

// webhooks returns the events that QuickBooks has told of since the last call,
// as envelopes.
func (b *bundle) webhooks() []*ledgerfeedv1.Envelope {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patient)
	defer cancel()
	require.NoError(b.t, b.sim.FlushWebhooks(ctx))
	return b.hooks.take()
}

// publish puts envelopes on the stream.
func (b *bundle) publish(envs ...*ledgerfeedv1.Envelope) {
	b.t.Helper()
	require.NoError(b.t, b.conn.Publish(b.t.Context(), envs...))
}

// deliver passes on what QuickBooks has told of and waits until it is delivered.
func (b *bundle) deliver(p running) {
	b.t.Helper()
	b.publish(b.webhooks()...)
	b.settle(p)
}

// event is one envelope of one event that nobody told of.
func (b *bundle) event(source ledgerfeedv1.Source, e *ledgerfeedv1.Event) *ledgerfeedv1.Envelope {
	b.t.Helper()
	if e.Id == "" {
		e.Id = "event"
	}
	envs := envelope.New(source, realm, fmt.Sprint(time.Now().UnixNano()), []*ledgerfeedv1.Event{e}, envelope.Meta{ReceivedAt: b.clock.Now()})
	require.Len(b.t, envs, 1)
	return envs[0]
}

// requireEqual compares the sinks with QuickBooks, deletions included.
func (b *bundle) requireEqual(sinks ...*memory) {
	b.t.Helper()
	if len(sinks) == 0 {
		sinks = []*memory{b.a, b.b}
	}
	for _, s := range sinks {
		want, got := map[qbosim.Ref]string{}, map[qbosim.Ref]string{}
		for _, r := range b.sim.Realms() {
			for ref, truth := range b.sim.Truth(r) {
				want[ref] = fmt.Sprintf("%d deleted=%t", truth.Version, truth.Deleted)
			}
		}
		for ref, c := range s.all() {
			got[ref] = fmt.Sprintf("%d deleted=%t", c.GetVersion(), c.GetDeleted())
		}
		require.Empty(b.t, cmp.Diff(want, got), "sink %s differs from QuickBooks", s.name)
	}
}

func (b *bundle) dead() []stream.DeadLetter {
	b.t.Helper()
	dead, err := b.conn.DeadLetters(b.t.Context(), 100)
	require.NoError(b.t, err)
	return dead
}

func (b *bundle) marks(sink, entity, id string) state.Mark {
	b.t.Helper()
	marks, err := b.store.Marks(b.t.Context(), realm, sink, []state.Ref{{Entity: entity, ID: id}})
	require.NoError(b.t, err)
	return marks[0]
}

// metric is the sum of a counter or gauge over its labels.
func (b *bundle) metric(name string) (sum float64) {
	b.t.Helper()
	families, err := b.registry.Gather()
	require.NoError(b.t, err)
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() // one of them is absent
			}
		}
	}
	return sum
}

// calls are the API calls so far.
func (b *bundle) calls() int { return b.sim.Stats().Calls }

// inbox is an ingress of a few lines: it keeps what QuickBooks posts.
type inbox struct {
	t      testing.TB
	clock  *clock
	server *httptest.Server

	mu   sync.Mutex
	envs []*ledgerfeedv1.Envelope
}

func (in *inbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		_, err = webhook.Verify(body, r.Header.Get("Intuit-Signature"), []secret.String{"verifier"})
	}
	var n webhook.Notification
	if err == nil {
		n, err = webhook.Parse(body)
	}
	if err != nil || len(n.Rejected) > 0 {
		in.t.Errorf("webhook: %v, %d rejected", err, len(n.Rejected))
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.envs = append(in.envs, envelope.FromNotification(body, n, envelope.Meta{App: "app", ReceivedAt: in.clock.Now()})...)
}

func (in *inbox) take() []*ledgerfeedv1.Envelope {
	in.mu.Lock()
	defer in.mu.Unlock()
	envs := in.envs
	in.envs = nil
	return envs
}

// memory is a sink that keeps every write and can be made to misbehave.
type memory struct {
	name string

	mu     sync.Mutex
	before func(context.Context, []*ledgerfeedv1.Change) error // may refuse a write
	writes []*ledgerfeedv1.Change
	sizes  []int // of the batches
}

func newMemory(name string) *memory { return &memory{name: name} }

func (m *memory) Name() string { return m.name }

func (m *memory) Close() error { return nil }

func (m *memory) misbehave(before func(context.Context, []*ledgerfeedv1.Change) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.before = before
}

func (m *memory) Write(ctx context.Context, changes []*ledgerfeedv1.Change) error {
	m.mu.Lock()
	before := m.before
	m.mu.Unlock()
	if before != nil {
		if err := before(ctx, changes); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes = append(m.writes, changes...)
	m.sizes = append(m.sizes, len(changes))
	return nil
}

func refOf(c *ledgerfeedv1.Change) qbosim.Ref {
	return qbosim.Ref{Realm: c.GetRealmId(), Entity: c.GetEntity(), ID: c.GetEntityId()}
}

// all is the newest change of each entity.
func (m *memory) all() map[qbosim.Ref]*ledgerfeedv1.Change {
	m.mu.Lock()
	defer m.mu.Unlock()
	newest := map[qbosim.Ref]*ledgerfeedv1.Change{}
	for _, c := range m.writes {
		if held := newest[refOf(c)]; held == nil || held.GetVersion() <= c.GetVersion() {
			newest[refOf(c)] = c
		}
	}
	return newest
}

func (m *memory) of(ref qbosim.Ref) []*ledgerfeedv1.Change {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []*ledgerfeedv1.Change
	for _, c := range m.writes {
		if refOf(c) == ref {
			all = append(all, c)
		}
	}
	return all
}

// last is the newest change of an entity, which must be there.
func (m *memory) last(t testing.TB, ref qbosim.Ref) *ledgerfeedv1.Change {
	t.Helper()
	c := m.all()[ref]
	require.NotNil(t, c, "sink %s has nothing of %v", m.name, ref)
	return c
}

func (m *memory) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.writes)
}

// requireOnce says that no change was delivered twice and none after a newer one.
func (m *memory) requireOnce(t testing.TB) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	last := map[qbosim.Ref]int64{}
	for _, c := range m.writes {
		require.Greater(t, c.GetVersion(), last[refOf(c)], "sink %s: %v", m.name, refOf(c))
		last[refOf(c)] = c.GetVersion()
	}
}

// requireOrdered says that no change was delivered after a newer one.
func (m *memory) requireOrdered(t testing.TB) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	last := map[qbosim.Ref]int64{}
	for _, c := range m.writes {
		require.GreaterOrEqual(t, c.GetVersion(), last[refOf(c)], "sink %s: %v", m.name, refOf(c))
		last[refOf(c)] = c.GetVersion()
	}
}

func latest(t testing.TB, b *bundle, ref qbosim.Ref) qbosim.State {
	t.Helper()
	states := b.sim.History(ref)
	require.NotEmpty(t, states)
	return states[len(states)-1]
}

func hostOf(t testing.TB, raw string) string {
	t.Helper()
	u, err := url.Parse(raw)
	require.NoError(t, err)
	return u.Host
}

func reasons(dead []stream.DeadLetter) []stream.Reason {
	var all []stream.Reason
	for _, d := range dead {
		all = append(all, d.Reason)
	}
	slices.Sort(all)
	return all
}

package reconciler_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
	"github.com/ledgerfeed/ledgerfeed/services/reconciler"
)

const (
	realm   = "9130347712345678"
	patient = time.Minute // a bound for what must happen
	brief   = 300 * time.Millisecond
)

var start = time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)

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

// tester is what a test of package testing and one of rapid share.
type tester interface {
	require.TestingT
	Helper()
	Cleanup(func())
	Context() context.Context
}

// bundle is a QuickBooks with one connected realm, the servers between, and a
// processor of a few lines.
type bundle struct {
	t           tester
	realm       string
	clock       *clock
	sim         *qbosim.Sim
	api         *httptest.Server
	store       *state.Store
	conn        *stream.Conn
	natsURL     string
	redisURL    string
	connections *connection.Store
	client      *qbo.Client
	config      reconciler.ReconcilerConfig
	log         *zap.Logger
	feed        *feed
}

func setup(t testing.TB) *bundle {
	t.Helper()
	url := devtest.Redis(t)
	b := setupOn(t, state.Config{URL: secret.String(url)})
	b.redisURL = url
	return b
}

// setupOn is setup with a Redis of the test's.
func setupOn(t testing.TB, c state.Config) *bundle {
	t.Helper()
	b := &bundle{t: t, realm: realm, clock: &clock{now: start}}
	b.log = zaptest.NewLogger(t, zaptest.Level(zapcore.WarnLevel))
	b.startQuickBooks()
	b.startServers(t, c)
	b.openConnections()
	b.config = reconciler.DefaultReconcilerConfig()
	b.config.RefreshCompany = 0 // a call a week would be in every count
	b.config.StartJitter = 0
	b.config.VerifyEvery = 5 * time.Millisecond
	b.config.PollInterval = 5 * time.Millisecond
	b.config.OutageGap = never // the clock of a test jumps
	b.connect()
	_, err := b.store.RegisterSinks(t.Context(), []string{"ledger"})
	require.NoError(t, err)
	b.remembered()
	b.feed = newFeed(b, "ledger")
	b.feed.start()
	return b
}

// remembered is a processor that has given Redis its marks back.
func (b *bundle) remembered() {
	b.t.Helper()
	memory, err := b.store.Memory(b.t.Context())
	require.NoError(b.t, err)
	require.NoError(b.t, b.store.Remembered(b.t.Context(), memory))
}

func (b *bundle) startQuickBooks() {
	b.t.Helper()
	var err error
	b.sim, err = qbosim.New(qbosim.Options{
		Seed: 7, Now: b.clock.Now, ClientID: "app", ClientSecret: "hush",
		Limits: qbosim.Limits{PerMinute: 1 << 20, Concurrent: 1 << 10},
	})
	require.NoError(b.t, err)
	b.api = httptest.NewServer(b.sim.Handler())
	b.t.Cleanup(func() {
		b.api.Close()
		require.NoError(b.t, b.sim.Close())
	})
}

func (b *bundle) startServers(t testing.TB, c state.Config) {
	b.t.Helper()
	ctx := b.t.Context()
	var err error
	b.store, err = state.Open(ctx, state.Options{Config: c, Now: b.clock.Now})
	require.NoError(b.t, err)
	b.t.Cleanup(func() { require.NoError(b.t, b.store.Close()) })
	b.natsURL = devtest.NATS(t)
	b.conn = b.dial(b.natsURL)
	require.NoError(b.t, b.conn.EnsureTopology(ctx))
}

func (b *bundle) openConnections() {
	b.t.Helper()
	oauth, err := qbo.NewOAuth(qbo.OAuthOptions{ClientID: "app", ClientSecret: "hush", TokenURL: b.api.URL + "/oauth2/v1/tokens/bearer", Now: b.clock.Now})
	require.NoError(b.t, err)
	key := secret.String("test:" + base64.StdEncoding.EncodeToString(make([]byte, 32)))
	b.connections, err = connection.New(connection.Options{
		State: b.store, Config: connection.Config{Keys: []secret.String{key}}, Refresher: oauth, Now: b.clock.Now,
	})
	require.NoError(b.t, err)
	b.client = b.newClient(b.api.URL)
}

func (b *bundle) dial(url string) *stream.Conn {
	b.t.Helper()
	cfg := stream.DefaultConfig()
	cfg.URL, cfg.Profile = url, "dev"
	conn, err := stream.Connect(b.t.Context(), stream.Options{Config: cfg, Name: "test"})
	require.NoError(b.t, err)
	b.t.Cleanup(conn.Close)
	return conn
}

func (b *bundle) newClient(url string) *qbo.Client {
	b.t.Helper()
	client, err := qbo.New(qbo.Options{BaseURL: url, Tokens: b.connections})
	require.NoError(b.t, err)
	return client
}

// connect makes the realm, if need be, and a new connection to it.
func (b *bundle) connect() {
	b.t.Helper()
	b.sim.AddRealm(b.realm)
	access, refresh := b.sim.Connect(b.realm)
	now := b.clock.Now()
	require.NoError(b.t, b.connections.Connect(b.t.Context(), b.realm, "app", qbo.Token{
		Access: access, Refresh: refresh, AccessExpires: now.Add(time.Hour),
		RefreshExpires: now.Add(100 * 24 * time.Hour), RefreshHardExpires: now.Add(5 * 365 * 24 * time.Hour),
	}))
}

// reconciler is a new process, as far as memory goes.
func (b *bundle) reconciler() *reconciler.Reconciler {
	b.t.Helper()
	r, err := reconciler.New(reconciler.Options{
		Config: b.config, Stream: b.conn, State: b.store, QBO: b.client, Connections: b.connections,
		Logger: b.log, Now: b.clock.Now,
	})
	require.NoError(b.t, err)
	return r
}

// reconcile scans and waits until all is verified.
func (b *bundle) reconcile(r *reconciler.Reconciler) reconciler.Report {
	b.t.Helper()
	report := b.request(r, reconciler.Request{Realms: []string{b.realm}, Wait: true})
	require.Empty(b.t, report.Errors)
	require.Zero(b.t, report.Unverified)
	return report
}

func (b *bundle) request(r *reconciler.Reconciler, q reconciler.Request) reconciler.Report {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patient)
	defer cancel()
	report, err := r.Reconcile(ctx, q)
	require.NoError(b.t, err)
	return report
}

// loaded is a bundle whose realm has records and whose initial load is done.
func loaded(t testing.TB, records int) (*bundle, *reconciler.Reconciler) {
	t.Helper()
	b := setup(t)
	for range records {
		b.step()
	}
	r := b.reconciler()
	b.clock.Advance(5 * time.Minute)
	b.reconcile(r)
	b.requireEqual()
	return b, r
}

func (b *bundle) step() qbosim.Ref {
	b.t.Helper()
	ref, err := b.sim.Step(b.realm)
	require.NoError(b.t, err)
	return ref
}

func (b *bundle) create(name string) qbosim.Ref {
	b.t.Helper()
	ref, err := b.sim.Create(b.realm, name, nil)
	require.NoError(b.t, err)
	return ref
}

func (b *bundle) cursors() map[string]time.Time {
	b.t.Helper()
	cursors, err := b.store.Cursors(b.t.Context(), b.realm)
	require.NoError(b.t, err)
	return cursors
}

// requireEqual compares the sinks with QuickBooks, deletions included. What was
// made and deleted between two scans may be unknown to a sink.
func (b *bundle) requireEqual() {
	b.t.Helper()
	for _, sink := range b.feed.sinks {
		require.Empty(b.t, b.difference(sink), "sink %s differs from QuickBooks", sink)
	}
}

func (b *bundle) equal() bool {
	return !slices.ContainsFunc(b.feed.sinks, func(sink string) bool { return b.difference(sink) != "" })
}

func (b *bundle) difference(sink string) string {
	have := b.feed.versions(sink, b.realm)
	want, got := map[state.Ref]string{}, map[state.Ref]string{}
	for ref, truth := range b.sim.Truth(b.realm) {
		key := state.Ref{Entity: ref.Entity, ID: ref.ID}
		version, known := have[key]
		switch {
		case truth.Deleted && !known:
			continue
		case truth.Deleted:
			want[key], got[key] = "deleted", fmt.Sprint(version)
			if qbo.IsTombstone(version) {
				got[key] = "deleted"
			}
		default:
			want[key] = fmt.Sprint(truth.Version)
			if known {
				got[key] = fmt.Sprint(version)
			}
		}
	}
	return cmp.Diff(want, got)
}

// behind are the entities whose cursor is not at the end.
func (b *bundle) behind() []string {
	b.t.Helper()
	var names []string
	cursors := b.cursors()
	for _, name := range append(slices.Clone(b.config.CDCEntities), b.config.QueryEntities...) {
		if !cursors[name].Equal(b.clock.Now().Add(-2 * time.Minute).Truncate(time.Second)) {
			names = append(names, name)
		}
	}
	return names
}

// noted are the records that a scan missed, and whose deletion is not delivered yet.
func (b *bundle) noted() map[state.Ref]state.Absence {
	b.t.Helper()
	all, err := b.store.Absences(b.t.Context(), b.realm)
	require.NoError(b.t, err)
	noted := map[state.Ref]state.Absence{}
	for _, some := range all {
		for _, a := range some {
			noted[a.Ref] = a
		}
	}
	return noted
}

// missed waits until a scan has missed at least so many records, and lets enough time pass for
// another to confirm it.
func (b *bundle) missed(n int) {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		// The scan has ended, too: one that is still at work notes more.
		due, err := b.store.Due(b.t.Context(), b.realm)
		return err == nil && due.After(b.clock.Now().Add(10*time.Minute)) && len(b.noted()) >= n
	}, patient, 10*time.Millisecond)
	b.clock.Advance(20 * time.Minute)
}

// requireHonest checks I4: no cursor is past a record whose state is not
// delivered, but for deletions that no answer names: those are noted. A state that was followed by another after the cursor will be
// found, as that other one, by the next scan.
func (b *bundle) requireHonest() {
	b.t.Helper()
	cursors, noted := b.cursors(), b.noted()
	for _, sink := range b.feed.sinks {
		have := b.feed.versions(sink, b.realm)
		for ref, truth := range b.sim.Truth(b.realm) {
			version, known := have[state.Ref{Entity: ref.Entity, ID: ref.ID}]
			_, missed := noted[state.Ref{Entity: ref.Entity, ID: ref.ID}]
			switch {
			case truth.Deleted && missed:
			case truth.LastUpdated.After(cursors[ref.Entity]), version >= truth.Version, qbo.IsTombstone(version):
			case truth.Deleted && !known: // made and deleted unseen; CDC tells of it, but not for ever
			default:
				require.Failf(b.t, "cursor ran ahead", "%v: cursor %s, %s has %d; now %s, history %s",
					ref, cursors[ref.Entity], sink, version, b.clock.Now(), b.history(ref))
			}
		}
	}
}

// another starts anew on the servers of b, so that the same draws do the same.
func (b *bundle) another(t tester) *bundle {
	t.Helper()
	c := *b
	c.t, c.clock = t, &clock{now: start}
	c.startQuickBooks()
	require.Eventually(t, func() bool {
		lag, err := c.conn.Lag(t.Context(), stream.Events, "test")
		return err == nil && lag.Pending+lag.AckPending == 0
	}, patient, time.Millisecond)
	c.feed.forget()
	require.NoError(t, c.store.Redis().FlushDB(t.Context()).Err())
	c.openConnections()
	c.connect()
	_, err := c.store.RegisterSinks(t.Context(), c.feed.sinks)
	require.NoError(t, err)
	c.remembered()
	return &c
}

// history tells the life of a record.
func (b *bundle) history(ref qbosim.Ref) string {
	var all []string
	for _, s := range b.sim.History(ref) {
		all = append(all, fmt.Sprintf("%s %d", s.Operation, s.Version))
	}
	return strings.Join(all, ", ")
}

// feed is a processor without QuickBooks: it takes each event at its version.
type feed struct {
	b     *bundle
	sinks []string

	mu        sync.Mutex
	lose      func(*ledgerfeedv1.Event) bool // events that get lost on the way
	delivered map[string]map[qbosim.Ref]int64
	events    []*ledgerfeedv1.Event
	envelopes []*ledgerfeedv1.Envelope
	stop      func()
}

func newFeed(b *bundle, sinks ...string) *feed {
	f := &feed{b: b, sinks: sinks, delivered: map[string]map[qbosim.Ref]int64{}, stop: func() {}}
	for _, sink := range sinks {
		f.delivered[sink] = map[qbosim.Ref]int64{}
	}
	b.t.Cleanup(func() { f.stop() })
	return f
}

func (f *feed) start() {
	ctx, cancel := context.WithCancel(context.WithoutCancel(f.b.t.Context()))
	done := make(chan error, 1)
	go func() {
		done <- f.b.conn.Consume(ctx, stream.ConsumeOptions{Queue: stream.Events, Durable: "test", AckWait: 5 * time.Second, MaxAckPending: 64}, func(m *stream.Message) {
			f.take(ctx, m)
		})
	}()
	f.stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
}

func (f *feed) take(ctx context.Context, m *stream.Message) {
	env, err := m.Envelope()
	if err != nil {
		f.b.t.Errorf("envelope: %v", err)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.envelopes = append(f.envelopes, env)
	var kept []state.Advance
	for _, e := range env.GetEvents() {
		f.events = append(f.events, e)
		if f.lose != nil && f.lose(e) {
			continue
		}
		// A record without a time has no version until it is read.
		kept = append(kept, state.Advance{
			Ref: state.Ref{Entity: e.GetEntity(), ID: e.GetEntityId()}, Version: max(e.GetVersion(), 1),
			Restore: env.GetSource() == ledgerfeedv1.Source_SOURCE_RESTORED,
		})
	}
	if err := f.deliverLocked(ctx, env.GetRealmId(), kept); err != nil {
		if ctx.Err() == nil {
			f.b.t.Errorf("deliver: %v", err)
		}
		return
	}
	_ = m.Ack(ctx)
}

func (f *feed) deliverLocked(ctx context.Context, realm string, changes []state.Advance) error {
	for _, sink := range f.sinks {
		for _, c := range changes {
			ref := qbosim.Ref{Realm: realm, Entity: c.Entity, ID: c.ID}
			if held := f.delivered[sink][ref]; qbo.Newer(held, c.Version) || c.Restore && qbo.IsTombstone(held) {
				f.delivered[sink][ref] = c.Version
			}
		}
		if err := f.b.store.Advance(ctx, realm, sink, changes); err != nil {
			return err
		}
	}
	return nil
}

// webhook delivers the present state of a record, as its webhook would have.
func (b *bundle) webhook(ref qbosim.Ref) {
	b.t.Helper()
	f := b.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	version := b.sim.Truth(b.realm)[ref].Version
	change := state.Advance{Ref: state.Ref{Entity: ref.Entity, ID: ref.ID}, Version: version}
	require.NoError(b.t, f.deliverLocked(context.Background(), ref.Realm, []state.Advance{change}))
}

// forget starts anew.
func (f *feed) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lose, f.events, f.envelopes = nil, nil, nil
	for _, sink := range f.sinks {
		f.delivered[sink] = map[qbosim.Ref]int64{}
	}
}

func (f *feed) losing(lose func(*ledgerfeedv1.Event) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lose = lose
}

func (f *feed) versions(sink, realm string) map[state.Ref]int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := map[state.Ref]int64{}
	for ref, version := range f.delivered[sink] {
		if ref.Realm == realm {
			all[state.Ref{Entity: ref.Entity, ID: ref.ID}] = version
		}
	}
	return all
}

func (f *feed) seen() []*ledgerfeedv1.Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]*ledgerfeedv1.Event(nil), f.events...)
}

// version is what the first sink has of a record.
func (f *feed) version(ref qbosim.Ref) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.delivered[f.sinks[0]][ref]
}

// seenSince are the events of an entity's changes after a time.
func (f *feed) seenSince(entity string, at time.Time) []*ledgerfeedv1.Event {
	return slices.DeleteFunc(f.seen(), func(e *ledgerfeedv1.Event) bool {
		return e.GetEntity() != entity || !e.GetOccurredAt().AsTime().After(at)
	})
}

// lateSink is a sink that is registered after the others.
func (f *feed) lateSink(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sinks = append(f.sinks, name)
	f.delivered[name] = map[qbosim.Ref]int64{}
}

// waitFor returns when an event of the entity has arrived.
func (f *feed) waitFor(t testing.TB, entity string) {
	t.Helper()
	require.Eventually(t, func() bool {
		for _, e := range f.seen() {
			if e.GetEntity() == entity {
				return true
			}
		}
		return false
	}, patient, time.Millisecond)
}

// scans are the scans that Redis remembers.
func (b *bundle) scans() []state.Scan {
	b.t.Helper()
	scans, err := b.store.Scans(b.t.Context(), b.realm)
	require.NoError(b.t, err)
	return scans
}

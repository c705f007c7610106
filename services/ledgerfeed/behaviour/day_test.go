package behaviour_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
	"github.com/ledgerfeed/ledgerfeed/services/ingress"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
	"github.com/ledgerfeed/ledgerfeed/services/reconciler"
)

const (
	app      = "books"
	verifier = "verifier-token-1"
	step     = 5 * time.Minute
	steps    = int(24 * time.Hour / step)
	// patient bounds what must happen between two steps, on a busy machine.
	patient = time.Minute
	poll    = 3 * time.Millisecond
	// turn is how often the loops of the services look for work.
	turn = 10 * time.Millisecond
	// calm is for how many polls nothing may have happened while nothing is due.
	calm = 2
	// stuck is for how many polls something may be due and nothing happen: a company that
	// is not live, or an event that waits for a delay.
	stuck = 80
	// claimed is how far ahead a realm is due at most while it is scanned: the clock must
	// not move then, or the claim runs out.
	claimed = time.Minute
)

// clock is everybody's.
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

// day is a feed of some companies.
type day struct {
	t           *testing.T
	clock       *clock
	sim         *qbosim.Sim
	api         *httptest.Server
	store       *state.Store
	conn        *stream.Conn
	oauth       *qbo.OAuth
	connections *connection.Store
	realms      []string
	stop        func() // ends the services

	mu    sync.Mutex // guards what follows
	held  map[qbosim.Ref]*ledgerfeedv1.Change
	calls []string // to the API, with the status that each was answered with
}

// begin starts a feed of n companies that are founded by fill and connected.
func begin(t *testing.T, n int, fill func(d *day, realm string)) *day {
	t.Helper()
	d := &day{t: t, clock: &clock{now: time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)}, held: map[qbosim.Ref]*ledgerfeedv1.Change{}}
	d.startQuickBooks()
	var err error
	d.store, err = state.Open(t.Context(), state.Options{Config: state.Config{URL: secret.String(devtest.Redis(t))}, Now: d.clock.Now})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.store.Close()) })
	cfg := stream.DefaultConfig()
	cfg.URL, cfg.Profile = devtest.NATS(t), stream.Dev
	d.conn, err = stream.Connect(t.Context(), stream.Options{Config: cfg, Name: "behaviour"})
	require.NoError(t, err)
	t.Cleanup(d.conn.Close)
	require.NoError(t, d.conn.EnsureTopology(t.Context()))
	d.openConnections("books", "hush")
	for i := range n {
		realm := fmt.Sprintf("93414530000%05d", i+1)
		d.sim.AddRealm(realm)
		d.realms = append(d.realms, realm)
		fill(d, realm)
		d.connect(realm)
	}
	d.stop = d.startServices()
	require.Eventually(t, func() bool { return d.sim.Stats().Calls > 0 }, patient, poll, "no load begins")
	d.rest()
	return d
}

func (d *day) startQuickBooks() {
	d.t.Helper()
	var err error
	d.sim, err = qbosim.New(qbosim.Options{
		Seed: 7, Now: d.clock.Now, ClientID: "books", ClientSecret: "hush", VerifierToken: verifier, Aggregate: -1,
		OtherClients: []qbosim.Client{{ID: "sandbox", Secret: "sandbox-hush"}}, RotateEvery: 24 * time.Hour,
		Limits: qbosim.Limits{PerMinute: 1 << 20, Concurrent: 1 << 10},
	})
	require.NoError(d.t, err)
	d.api = httptest.NewServer(d.recorded(d.sim.Handler()))
	d.t.Cleanup(func() {
		d.api.Close()
		require.NoError(d.t, d.sim.Close())
	})
}

// recorded keeps what is called, for a test that fails for its calls.
func (d *day) recorded(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		h.ServeHTTP(answer, r)
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes()) // a caller that is gone needs no answer
		_, path, isAPI := strings.Cut(r.URL.Path, "/v3/company/")
		if !isAPI {
			return
		}
		asked := r.URL.Query().Get("query") + r.URL.Query().Get("entities")
		d.mu.Lock()
		defer d.mu.Unlock()
		d.calls = append(d.calls, fmt.Sprintf("%s %d %s %s", d.clock.Now().Format("02 15:04:05"), answer.Code, path, asked))
	})
}

// called are the calls so far, one a line.
func (d *day) called() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.calls, "\n")
}

// openConnections makes the store of tokens for an app's keys.
func (d *day) openConnections(id, password string) {
	d.t.Helper()
	var err error
	d.oauth, err = qbo.NewOAuth(qbo.OAuthOptions{
		ClientID: id, ClientSecret: secret.String(password), TokenURL: d.api.URL + "/oauth2/v1/tokens/bearer",
		RevokeURL: d.api.URL + "/v2/oauth2/tokens/revoke", Now: d.clock.Now,
	})
	require.NoError(d.t, err)
	key := secret.String("test:" + base64.StdEncoding.EncodeToString(make([]byte, 32)))
	d.connections, err = connection.New(connection.Options{
		State: d.store, Config: connection.Config{Keys: []secret.String{key}}, Refresher: d.oauth, Now: d.clock.Now,
		RetryEvery: turn,
	})
	require.NoError(d.t, err)
}

func (d *day) connect(realm string) {
	d.t.Helper()
	token, err := d.oauth.Exchange(d.t.Context(), d.sim.Authorize(realm), "")
	require.NoError(d.t, err)
	require.NoError(d.t, d.connections.Connect(d.t.Context(), realm, app, token))
}

// restart is a deployment with the keys of an app.
func (d *day) restart(id, password string) {
	d.t.Helper()
	d.stop()
	d.openConnections(id, password)
	d.stop = d.startServices()
}

func (d *day) startServices() (stop func()) {
	d.t.Helper()
	client, err := qbo.New(qbo.Options{BaseURL: d.api.URL, Tokens: d.connections})
	require.NoError(d.t, err)
	pc := processor.DefaultProcessorConfig()
	pc.CoalesceWindow, pc.AckWait = poll, 5*time.Second
	p, err := processor.New(processor.Options{
		Config: pc, Stream: d.conn, State: d.store, QBO: client, Connections: d.connections, Now: d.clock.Now, Hold: d.hold,
		Sinks: []processor.Sink{processor.HandlerSink("ledger", d.take)}, Logger: zap.NewNop(),
	})
	require.NoError(d.t, err)
	rc := reconciler.DefaultReconcilerConfig()
	rc.StartJitter, rc.PollInterval, rc.VerifyEvery = 0, turn, turn
	rc.OutageGap = 1000 * time.Hour // the clock moves in steps
	r, err := reconciler.New(reconciler.Options{
		Config: rc, Stream: d.conn, State: d.store, QBO: client, Connections: d.connections, Now: d.clock.Now, Logger: zap.NewNop(),
	})
	require.NoError(d.t, err)
	ic := ingress.DefaultIngressConfig()
	ic.Listen, ic.Apps = "127.0.0.1:0", app+"="+verifier
	in, err := ingress.New(ingress.Options{Config: ic, Publisher: d.conn, Now: d.clock.Now, Logger: zap.NewNop()})
	require.NoError(d.t, err)
	d.sim.SetWebhookURL("http://" + in.Addr() + "/webhooks/" + app)

	ctx, cancel := context.WithCancel(context.WithoutCancel(d.t.Context()))
	var running sync.WaitGroup
	start := func(name string, run func(context.Context) error) {
		running.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				d.t.Errorf("%s: %v", name, err)
			}
		})
	}
	stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	d.t.Cleanup(stop)
	start("processor", p.Run)
	// A sink that is registered while a company is loaded has it scanned again.
	require.Eventually(d.t, func() bool {
		known, err := d.store.Registration(ctx)
		return err == nil && known.Config != ""
	}, patient, poll, "no sink is registered")
	start("reconciler", r.Run)
	start("ingress", in.Run)
	start("tokens", d.connections.Watch)
	return stop
}

// hold shortens what the broker waits, since its clock is the real one: a wait for a
// company that is refused costs no call, and backoffs of seconds become some milliseconds.
func (d *day) hold(delay time.Duration) time.Duration {
	if delay < time.Minute {
		return delay / 20
	}
	return 2 * turn
}

// take is the sink: the last change of a record counts.
func (d *day) take(_ context.Context, c *ledgerfeedv1.Change) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	ref := qbosim.Ref{Realm: c.GetRealmId(), Entity: c.GetEntity(), ID: c.GetEntityId()}
	if before := d.held[ref]; before == nil || c.GetVersion() >= before.GetVersion() || c.GetSource() == ledgerfeedv1.Source_SOURCE_RESTORED {
		d.held[ref] = c
	}
	return nil
}

// rest waits until nothing is due and nothing happens.
func (d *day) rest() {
	d.t.Helper()
	quiet, last := 0, -1
	require.Eventually(d.t, func() bool {
		calls := d.sim.Stats().Calls
		switch {
		case calls != last:
			quiet = 0
		case d.due():
			quiet++
			last = calls
			return quiet >= stuck
		default:
			quiet++
		}
		last = calls
		return quiet >= calm
	}, patient, poll)
}

// due reports whether a scan is due, or an event is not taken yet.
func (d *day) due() bool {
	lag, err := d.conn.Lag(d.t.Context(), stream.Events, "processor")
	if err != nil || lag.Pending > 0 {
		return true
	}
	for _, realm := range d.realms {
		at, err := d.store.Due(d.t.Context(), realm)
		if err != nil || !at.IsZero() && !at.After(d.clock.Now().Add(claimed)) {
			return true
		}
		if scans, err := d.store.Scans(d.t.Context(), realm); err != nil || len(scans) > 0 {
			return true
		}
		if job, err := d.store.Job(d.t.Context(), realm); err == nil && !job.State.Over() {
			return true
		}
	}
	return false
}

// advance lets so much time pass, tick by tick of the schedule. Ticks at which nothing is
// due are passed over: at them nothing is called.
func (d *day) advance(by time.Duration) {
	d.t.Helper()
	for by > 0 {
		tick := min(d.idle(), by)
		d.clock.Advance(tick)
		by -= tick
		d.rest()
	}
}

// advanceBy lets so much time pass in steps of that length.
func (d *day) advanceBy(by, step time.Duration) {
	d.t.Helper()
	for ; by > 0; by -= step {
		d.clock.Advance(min(step, by))
		d.rest()
	}
}

// idle is how long it is until the tick at which the next company is due: a step while
// messages are not settled, and an hour at most.
func (d *day) idle() time.Duration {
	most := time.Hour
	for _, q := range queues {
		if lag, err := d.conn.Lag(d.t.Context(), q.queue, q.durable); err != nil || lag.Stored > 0 {
			return step
		}
	}
	for _, realm := range d.realms {
		at, err := d.store.Due(d.t.Context(), realm)
		if err != nil {
			return step
		}
		if !at.IsZero() {
			most = min(most, at.Sub(d.clock.Now()))
		}
	}
	return max(step, (most + step - 1).Truncate(step))
}

// age lets two days pass in large steps: no company is new any more.
func (d *day) age() {
	d.t.Helper()
	for range 16 {
		d.clock.Advance(3 * time.Hour)
		d.rest()
	}
}

// tell sends the webhooks there are.
func (d *day) tell() {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), patient)
	defer cancel()
	require.NoError(d.t, d.sim.FlushWebhooks(ctx))
	d.rest()
}

// change makes changes of a company that webhooks tell of.
func (d *day) change(realm string, n int) {
	d.t.Helper()
	for range n {
		_, err := d.sim.Step(realm)
		require.NoError(d.t, err)
	}
	d.tell()
}

func (d *day) refuse(all ...qbosim.Refusal) {
	f := d.sim.Faults()
	f.Refuse = all
	d.sim.SetFaults(f)
}

// queues are those in which an event may wait.
var queues = []struct {
	queue   stream.Queue
	durable string
}{{stream.Events, "processor"}, {stream.Waiting, "processor_waiting"}}

// outcome is what came of a day.
type outcome struct {
	answered, refused int // calls
	refreshes         int // that Intuit granted and refused
	records, same     int // live or deleted, and those that the sink has so
	missing           []string
	dead              int
	waiting           int // messages
	states            map[connection.State]int
	left              map[string]string // refused entities with Intuit's text
}

// since is what has happened since before.
func (d *day) since(before qbosim.Stats) outcome {
	d.t.Helper()
	now := d.sim.Stats()
	o := outcome{
		refused: now.Refused - before.Refused, states: map[connection.State]int{}, left: map[string]string{},
		refreshes: now.Refreshes + now.RefreshesRefused - before.Refreshes - before.RefreshesRefused,
	}
	o.answered = now.Calls - before.Calls - o.refused
	for _, realm := range d.realms {
		c, err := d.connections.Get(d.t.Context(), realm)
		require.NoError(d.t, err)
		o.states[c.State]++
		all, err := d.store.Refusals(d.t.Context(), realm)
		require.NoError(d.t, err)
		for _, r := range all {
			o.left[r.Entity] = r.Way
		}
	}
	d.compare(&o)
	require.NoError(d.t, d.conn.EachDead(d.t.Context(), stream.DeadFilter{}, func(stream.DeadLetter) error { o.dead++; return nil }))
	for _, q := range queues {
		lag, err := d.conn.Lag(d.t.Context(), q.queue, q.durable)
		require.NoError(d.t, err)
		o.waiting += int(lag.Stored)
	}
	return o
}

func (d *day) compare(o *outcome) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, realm := range d.realms {
		for ref, truth := range d.sim.Truth(realm) {
			held := d.held[ref]
			if truth.Deleted && held == nil {
				continue // made and deleted unseen
			}
			o.records++
			if held != nil && held.GetDeleted() == truth.Deleted && (truth.Deleted || held.GetVersion() == truth.Version) {
				o.same++
				continue
			}
			o.missing = append(o.missing, ref.Entity+" "+ref.ID)
		}
	}
	slices.Sort(o.missing)
}

func (o outcome) String() string {
	return fmt.Sprintf("%d calls answered, %d refused, %d refreshes, %d of %d records, %d dead letters, %d waiting, states %v, refused %v, missing %s",
		o.answered, o.refused, o.refreshes, o.same, o.records, o.dead, o.waiting, o.states, o.left, strings.Join(o.missing, ", "))
}

// company is one with some twenty records.
func company(d *day, realm string) {
	d.t.Helper()
	for _, name := range []string{"Customer", "Customer", "Vendor", "Item", "Item", "Account", "Invoice", "Invoice", "Bill", "Payment", "JournalEntry", "TimeActivity", "Class", "Department", "Budget"} {
		_, err := d.sim.Create(realm, name, nil)
		require.NoError(d.t, err)
	}
}

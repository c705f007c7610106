package reconciler_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/reconciler"
)

// quiet is a realm that was loaded and uses only what CDC knows, and has rested.
func quiet(t *testing.T) *bundle {
	t.Helper()
	b := setup(t)
	for range 5 {
		b.create("Invoice")
		b.create("Customer")
	}
	b.clock.Advance(time.Hour)
	b.reconcile(b.reconciler())
	stop := run(t, b.reconciler())
	b.rest()
	stop()
	require.Empty(t, b.usedOf(realm))
	return b
}

// ranSchedule runs a reconciler until it has made the scan that is due, and returns the
// calls by kind.
func (b *bundle) ranSchedule(t *testing.T) (cdc, query int) {
	t.Helper()
	before := b.sim.Stats().CallsByKind
	pace, err := b.store.Pace(t.Context(), realm)
	require.NoError(t, err)
	stop := run(t, b.reconciler())
	defer stop()
	require.Eventually(t, func() bool {
		now, err := b.store.Pace(t.Context(), realm)
		return err == nil && now.Scanned.After(pace.Scanned)
	}, patient, time.Millisecond)
	b.rest()
	after := b.sim.Stats().CallsByKind
	return after["cdc"] - before["cdc"], after["query"] - before["query"]
}

// What brings a quiet realm up to date after something went wrong: one call where
// everything is found by CDC, one more at most.
func TestRecovery_CallsOfAQuietRealm(t *testing.T) {
	t.Parallel()
	outage := func(kind string) func(t *testing.T, b *bundle) {
		return func(t *testing.T, b *bundle) {
			from := b.clock.Now()
			b.clock.Advance(6 * time.Hour)
			require.NoError(t, b.store.AddOutage(t.Context(), state.Outage{Kind: kind, From: from, To: b.clock.Now()}))
			require.NoError(t, b.store.Schedule(t.Context(), realm, b.clock.Now()))
		}
	}
	for _, tc := range []struct {
		name string
		goes func(t *testing.T, b *bundle)
	}{
		{"ingress", outage(state.OutageIngress)},
		{"broker", outage(state.OutageBroker)},
		{"unwatched", outage(state.OutageUnwatched)},
		{"lapse", func(t *testing.T, b *bundle) {
			b.sim.RevokeRealm(realm)
			b.clock.Advance(2 * time.Hour)
			report := b.request(b.reconciler(), reconciler.Request{Realms: []string{realm}})
			require.Equal(t, []string{realm}, report.Parked)
			b.clock.Advance(20 * 24 * time.Hour)
			b.connect()
			require.NoError(t, b.store.Schedule(t.Context(), realm, b.clock.Now()))
		}},
		{"reconnect", func(t *testing.T, b *bundle) {
			b.clock.Advance(time.Hour)
			require.NoError(t, b.connections.Disconnect(t.Context(), realm))
			b.clock.Advance(5 * 24 * time.Hour)
			b.connect()
			require.NoError(t, b.store.Schedule(t.Context(), realm, b.clock.Now()))
		}},
		{"long silence", func(_ *testing.T, b *bundle) { b.clock.Advance(9 * 24 * time.Hour) }},
		{"dormant for long", func(t *testing.T, b *bundle) {
			now := b.clock.Now()
			p := state.Pace{Scanned: now, Full: now, Changed: now.Add(-100 * 24 * time.Hour)}
			require.NoError(t, b.store.SetPace(t.Context(), realm, p))
			b.clock.Advance(16 * 24 * time.Hour)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := quiet(t)
			tc.goes(t, b)
			cdc, query := b.ranSchedule(t)
			t.Logf("%d calls of cdc, %d of query", cdc, query)
			require.Equal(t, 1, cdc)
			require.LessOrEqual(t, query, 1)
			b.requireHonest()
		})
	}
}

// A quiet day costs one call, and one for each entity whose records are to be counted
// that day.
func TestRecovery_CallsOfAQuietWeek(t *testing.T) {
	t.Parallel()
	b := quiet(t)
	calls, least, most := 0, 99, 0
	for range 14 {
		b.clock.Advance(b.config.Interval)
		cdc, query := b.ranSchedule(t)
		require.Equal(t, 1, cdc)
		calls, least, most = calls+cdc+query, min(least, cdc+query), max(most, cdc+query)
	}
	t.Logf("%d calls in 14 days, %d to %d a day", calls, least, most)
	require.LessOrEqual(t, most, 3)
	require.LessOrEqual(t, calls, 14+len(b.config.QueryEntities)+2*2+1, "two entities of CDC are in use")
	for _, name := range b.config.QueryEntities {
		require.Less(t, b.clock.Now().Sub(b.cursors()[name]), 15*24*time.Hour, name)
	}
	u, err := b.store.EntityUse(t.Context(), realm)
	require.NoError(t, err)
	for _, name := range b.config.QueryEntities {
		require.False(t, u[name].Used, name)
		require.False(t, u[name].Counted.IsZero(), name)
	}
	asked := b.reconcile(b.reconciler()).Calls
	t.Logf("%d calls where somebody asked", asked)
	require.LessOrEqual(t, asked, 1+len(b.config.QueryEntities))

	// Nothing has changed for a hundred days: the next scan is in ten, and has their turns.
	now := b.clock.Now()
	require.NoError(t, b.store.SetPace(t.Context(), realm, state.Pace{Scanned: now, Full: now, Changed: now.Add(-100 * 24 * time.Hour)}))
	b.clock.Advance(10*24*time.Hour + time.Minute)
	cdc, query := b.ranSchedule(t)
	t.Logf("%d calls after ten days", cdc+query)
	require.LessOrEqual(t, cdc+query, 1+len(b.config.QueryEntities)+2)
}

// An outage over a thousand quiet realms, before a QuickBooks that counts.
func TestRecovery_CallsOfAThousandRealms(t *testing.T) {
	t.Parallel()
	const realms = 1000
	f := newFleet(t, realms)
	cfg := stream.DefaultConfig()
	cfg.URL, cfg.Profile = f.natsURL, "dev"
	conn, err := stream.Connect(t.Context(), stream.Options{Config: cfg, Name: "test"})
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.EnsureTopology(t.Context()))
	client, err := qbo.New(qbo.Options{BaseURL: f.quickbooks("all"), Tokens: f.connections})
	require.NoError(t, err)
	config := reconciler.DefaultReconcilerConfig()
	config.RefreshCompany = 0 // a call a week would be in every count
	config.Realms, config.StartJitter, config.PollInterval = 16, 0, 10*time.Millisecond
	r, err := reconciler.New(reconciler.Options{Config: config, Stream: conn, State: f.store, QBO: client, Connections: f.connections})
	require.NoError(t, err)
	// They count as scanned two seconds after they were connected.
	end := time.Now().Add(3 * time.Second)
	require.NoError(t, f.store.AddOutage(t.Context(), state.Outage{Kind: state.OutageIngress, From: end.Add(-6 * time.Hour), To: end}))
	stop := run(t, r)
	f.allScanned(patient)
	require.Eventually(t, func() bool {
		next, err := f.store.NextDue(t.Context(), allShards())
		return err == nil && next.After(time.Now().Add(config.Interval/2))
	}, patient, 10*time.Millisecond)
	stop()
	_, by := f.count()
	f.mu.Lock()
	defer f.mu.Unlock()
	t.Logf("an outage over %d quiet realms: %d calls of cdc, %d of query", realms, by["all"], f.queries)
	require.Equal(t, realms, by["all"])
	require.Zero(t, f.queries)
}

func allShards() []int {
	all := make([]int, state.Shards)
	for i := range all {
		all[i] = i
	}
	return all
}

// What the realm uses is found with the recovery: by a mark, by a webhook, or by what
// was recorded.
func TestRecovery_CoversWhatTheRealmUses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, entity string
		before       func(b *bundle, r *reconciler.Reconciler)
	}{
		{"a record was delivered", "TimeActivity", func(b *bundle, r *reconciler.Reconciler) {
			b.webhook(b.create("TimeActivity"))
			b.clock.Advance(time.Hour)
		}},
		{"a webhook came", "JournalCode", func(b *bundle, _ *reconciler.Reconciler) { b.heard(realm, "JournalCode", "update") }},
		{"a scan found one", "TaxRate", func(b *bundle, r *reconciler.Reconciler) { b.use(r, "TaxRate") }},
		{"redis has lost what was recorded", "TaxCode", func(b *bundle, r *reconciler.Reconciler) {
			b.use(r, "TaxCode")
			require.NoError(b.t, b.store.Redis().Del(b.t.Context(), state.Key("use", realm)).Err())
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := quiet(t)
			tc.before(b, b.reconciler())
			lost := b.create(tc.entity)
			b.clock.Advance(time.Hour)
			require.NoError(t, b.store.AddOutage(t.Context(), state.Outage{Kind: state.OutageIngress, From: b.clock.Now().Add(-2 * time.Hour), To: b.clock.Now()}))
			cdc, query := b.ranSchedule(t)
			require.Equal(t, 1, cdc)
			require.LessOrEqual(t, query, 2)
			require.Eventually(t, func() bool { return b.has(tc.entity, lost.ID) }, patient, time.Millisecond)
			b.requireHonest()
		})
	}
}

// What the realm uses costs a Query for each entity; a scan that somebody
// asked for asks for the others as well.
func TestRecovery_CallsOfARealmThatUsesMore(t *testing.T) {
	t.Parallel()
	b, r := loaded(t, 40)
	for range 3 {
		b.create("TimeActivity")
	}
	b.use(r, "TaxRate")
	used := len(b.usedOf(realm))
	b.clock.Advance(24 * time.Hour)
	require.NoError(t, b.store.AddOutage(t.Context(), state.Outage{Kind: state.OutageBroker, From: b.clock.Now().Add(-time.Hour), To: b.clock.Now()}))
	cdc, query := b.ranSchedule(t)
	b.clock.Advance(time.Hour)
	asked := b.reconcile(r).Calls
	t.Logf("uses %d entities that only query finds: %d calls after an outage, %d where somebody asked", used, cdc+query, asked)
	require.Equal(t, 1+used, cdc+query)
	require.LessOrEqual(t, asked, 1+len(b.config.QueryEntities))
}

// The first records of an entity, of which no webhook told, are found on its turn: all of
// them, those before the cursor too.
func TestUse_TheFirstRecordsAreFoundOnTheirTurn(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"TimeActivity", "TaxRate", "CreditCardPayment"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := quiet(t)
			refs := b.many(name, 1200)
			b.clock.Advance(time.Hour)
			// As if a replica that was late had answered the last count.
			require.NoError(t, b.store.AdvanceCursors(t.Context(), realm, map[string]time.Time{name: b.clock.Now()}))
			days := 0
			for !b.has(name, refs[0].ID) && days < 16 {
				b.clock.Advance(b.config.Interval)
				b.ranSchedule(t)
				days++
			}
			require.Eventually(t, b.equal, patient, 10*time.Millisecond)
			require.LessOrEqual(t, days, 15)
			b.requireHonest()
			u, err := b.store.EntityUse(t.Context(), realm)
			require.NoError(t, err)
			require.True(t, u[name].Used)
		})
	}
}

// A load that the first records have caused is broken off: the next scan begins again
// and does not go on from the cursor.
func TestUse_ALoadThatWasBrokenOffIsMadeAgain(t *testing.T) {
	t.Parallel()
	b := quiet(t)
	refs := b.many("TimeActivity", 30)
	b.clock.Advance(time.Hour)
	require.NoError(t, b.store.AdvanceCursors(t.Context(), realm, map[string]time.Time{"TimeActivity": b.clock.Now()}))
	b.clock.Advance(8 * 24 * time.Hour)
	// It was counted, and the process died.
	require.NoError(t, b.store.SetEntityUse(t.Context(), realm, map[string]state.EntityUse{"TimeActivity": {Used: true, Counted: b.clock.Now()}}))
	require.False(t, b.has("TimeActivity", refs[0].ID))
	b.ranSchedule(t)
	require.Eventually(t, b.equal, patient, 10*time.Millisecond)
}

// follow is a reconciler whose clock runs, and Redis's, as the broker's does.
func (b *bundle) follow(began time.Time) *reconciler.Reconciler {
	b.t.Helper()
	at := b.clock.Now()
	now := func() time.Time { return at.Add(time.Since(began)) }
	store, err := state.Open(b.t.Context(), state.Options{Config: state.Config{URL: secret.String(b.redisURL)}, Now: now})
	require.NoError(b.t, err)
	b.t.Cleanup(func() { require.NoError(b.t, store.Close()) })
	r, err := reconciler.New(reconciler.Options{
		Config: b.config, Stream: b.conn, State: store, QBO: b.client, Connections: b.connections,
		Logger: b.log, Now: now,
	})
	require.NoError(b.t, err)
	return r
}

// watchUntil runs a reconciler until the watch is so.
type watchUntil func(t *testing.T, b *bundle, until func(state.Watch) bool)

// beatingIngress beats as long as it is up.
type beatingIngress struct {
	up    atomic.Bool
	beats atomic.Int64
	stop  func()
}

func (b *bundle) ingress() *beatingIngress {
	i := &beatingIngress{}
	i.up.Store(true)
	ctx, cancel := context.WithCancel(b.t.Context())
	var g sync.WaitGroup
	g.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			i.beats.Add(1)
			if i.up.Load() {
				_ = b.conn.Beat(ctx, "ingress")
			}
		}
	})
	i.stop = func() { cancel(); g.Wait() }
	return i
}

// pass waits until as many beats are due as a time holds.
func (i *beatingIngress) pass(t *testing.T, d time.Duration) {
	t.Helper()
	began, n := time.Now(), i.beats.Load()+int64(d/(20*time.Millisecond))
	require.Eventually(t, func() bool { return i.beats.Load() > n && time.Since(began) > d }, patient, time.Millisecond)
}

// No reconciler listened for a time. What the broker has recorded tells whether the
// ingress was there.
func TestUnwatched_TheBrokerTellsWhetherTheIngressWasThere(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		goes  func(t *testing.T, b *bundle, i *beatingIngress, watch watchUntil)
		kinds []string
	}{
		{"it was", func(t *testing.T, b *bundle, i *beatingIngress, watch watchUntil) { i.pass(t, 5*time.Second) }, nil},
		{"it was not", func(t *testing.T, b *bundle, i *beatingIngress, watch watchUntil) {
			i.pass(t, 500*time.Millisecond)
			i.up.Store(false)
			i.pass(t, 4*time.Second)
			i.up.Store(true)
			i.pass(t, 500*time.Millisecond)
		}, []string{state.OutageIngress}},
		{"it was not, and comes later", func(t *testing.T, b *bundle, i *beatingIngress, watch watchUntil) {
			i.up.Store(false)
			i.pass(t, 4*time.Second)
			watch(t, b, func(w state.Watch) bool { return w.Down() }) // the reconciler is there first
			i.up.Store(true)
		}, []string{state.OutageIngress}},
		{"nothing was recorded", func(t *testing.T, b *bundle, i *beatingIngress, watch watchUntil) {
			require.NoError(t, b.jetStream(t).DeleteStream(t.Context(), stream.HeartbeatStream))
			i.up.Store(false)
			i.pass(t, 5*time.Second)
			i.up.Store(true)
		}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := quiet(t)
			b.config.OutageGap = 2 * time.Second
			i := b.ingress()
			defer i.stop()
			began := time.Now()
			watch := func(t *testing.T, b *bundle, until func(state.Watch) bool) {
				stop := run(t, b.follow(began))
				defer stop()
				require.Eventually(t, func() bool {
					w, err := b.store.Watch(t.Context())
					return err == nil && until(w)
				}, patient, time.Millisecond)
			}
			listen := func() {
				at := b.clock.Now().Add(time.Since(began))
				watch(t, b, func(w state.Watch) bool { return w.Beat.After(at.Add(500*time.Millisecond)) && !w.Pending() })
			}
			listen()
			calls := b.sim.Stats().Calls
			tc.goes(t, b, i, watch)
			listen()
			var kinds []string
			for _, o := range b.outages() {
				kinds = append(kinds, o.Kind)
			}
			require.Equal(t, tc.kinds, kinds)
			for _, o := range b.outages() {
				require.False(t, o.Open)
				require.InDelta(t, 5, o.To.Sub(o.From).Seconds(), 2, "%v", o) // on a slow machine too
			}
			if len(tc.kinds) == 0 {
				require.Equal(t, calls, b.sim.Stats().Calls, "a restart costs no call")
			}
		})
	}
}

// Where nobody knows whether the ingress was there, realms become due over a day; after
// an outage soon.
func TestUnwatched_RealmsBecomeDueOverADay(t *testing.T) {
	t.Parallel()
	for kind, most := range map[string]time.Duration{state.OutageUnwatched: 24 * time.Hour, state.OutageIngress: 5 * time.Minute} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.config.StartJitter = 5 * time.Minute
			b.config.Realms = 1
			all := make([]string, 40)
			now := b.clock.Now()
			for i := range all {
				on := *b
				on.realm = fmt.Sprintf("91303477%08d", i)
				on.connect()
				all[i] = on.realm
				require.NoError(t, b.store.Schedule(t.Context(), on.realm, now.Add(24*time.Hour)))
			}
			require.NoError(t, b.store.AddOutage(t.Context(), state.Outage{Kind: kind, From: now.Add(-time.Hour), To: now}))
			stop := run(t, b.reconciler())
			defer stop()
			require.Eventually(t, func() bool {
				w, err := b.store.Watch(t.Context())
				return err == nil && !w.Pending()
			}, patient, time.Millisecond)
			late := 0
			for _, one := range all {
				due, err := b.store.Due(t.Context(), one)
				require.NoError(t, err)
				require.False(t, due.After(now.Add(most)), due)
				if due.After(now.Add(most / 2)) {
					late++
				}
			}
			require.Greater(t, late, 4, "spread over all of it")
		})
	}
}

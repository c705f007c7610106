package reconciler_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

// watched waits until a running reconciler has noted what it heard up to now.
func (b *bundle) watched() state.Watch {
	b.t.Helper()
	now := b.clock.Now().Truncate(time.Millisecond)
	var w state.Watch
	require.Eventually(b.t, func() bool {
		var err error
		w, err = b.store.Watch(b.t.Context())
		return err == nil && !w.Watched.Before(now)
	}, patient, time.Millisecond)
	return w
}

// beat is a beat of an ingress that a running reconciler has heard.
func (b *bundle) beat() {
	b.t.Helper()
	now := b.clock.Now().Truncate(time.Millisecond)
	require.Eventually(b.t, func() bool {
		require.NoError(b.t, b.conn.Beat(b.t.Context(), "ingress"))
		w, err := b.store.Watch(b.t.Context())
		return err == nil && !w.Beat.Before(now)
	}, patient, 5*time.Millisecond)
}

// silence lets time pass in which a running reconciler hears nothing.
func (b *bundle) silence(d time.Duration) {
	b.t.Helper()
	for step := b.config.OutageGap / 2; d > 0; d -= step {
		b.clock.Advance(min(step, d))
		b.watched()
	}
}

func (b *bundle) outages() []state.Outage {
	b.t.Helper()
	all, err := b.store.Outages(b.t.Context())
	require.NoError(b.t, err)
	return all
}

func (b *bundle) has(name, id string) bool {
	_, ok := b.feed.versions(b.feed.sinks[0], b.realm)[state.Ref{Entity: name, ID: id}]
	return ok
}

func TestOutage_SilenceOfTheIngressMakesRealmsDue(t *testing.T) {
	t.Parallel()
	b, _ := loaded(t, 20)
	b.config.OutageGap = 10 * time.Minute
	r := b.reconciler()
	defer run(t, r)()
	b.beat()
	b.rest()
	from := b.clock.Now()
	b.silence(time.Hour)
	lost, activity := b.create("Invoice"), b.create("TimeActivity")
	b.silence(time.Hour)
	all := b.outages()
	require.Len(t, all, 1)
	require.True(t, all[0].Open)
	require.Equal(t, state.OutageIngress, all[0].Kind)
	// So young that it would be left to its webhook.
	young := b.create("Bill")
	b.clock.Advance(time.Second)
	before := b.sim.Stats().CallsByKind["cdc"]
	require.False(t, b.has("Invoice", lost.ID), "the next scan is a day away")

	b.beat()
	require.Eventually(t, func() bool {
		return b.has("Invoice", lost.ID) && b.has("TimeActivity", activity.ID) && b.has("Bill", young.ID)
	}, patient, time.Millisecond)
	b.rest()
	require.Equal(t, before+1, b.sim.Stats().CallsByKind["cdc"], "each realm is scanned once for it")
	all = b.outages()
	require.Len(t, all, 1)
	require.False(t, all[0].Open)
	require.WithinDuration(t, from, all[0].From, b.config.OutageGap/2, "a beat may be noted with the next look")
	require.WithinDuration(t, b.clock.Now(), all[0].To, time.Second)
	b.requireHonest()
}

// rest waits until a running reconciler has scanned what is due.
func (b *bundle) rest() {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		due, err := b.store.Due(b.t.Context(), b.realm)
		require.NoError(b.t, err)
		w, err := b.store.Watch(b.t.Context())
		require.NoError(b.t, err)
		return due.After(b.clock.Now().Add(b.config.Interval/2)) && !w.Pending()
	}, patient, time.Millisecond)
}

func TestOutage_NobodyListenedCountsAsOne(t *testing.T) {
	t.Parallel()
	b, _ := loaded(t, 20)
	b.config.OutageGap = 10 * time.Minute
	r := b.reconciler()
	stop := run(t, r)
	b.beat()
	b.rest()
	stop()

	calls := b.sim.Stats().Calls
	b.clock.Advance(9 * time.Minute)
	stop = run(t, b.reconciler())
	b.beat()
	require.Empty(t, b.outages())
	stop()
	require.Equal(t, calls, b.sim.Stats().Calls, "a restart costs no call")

	b.clock.Advance(time.Hour)
	lost := b.create("TimeActivity")
	b.clock.Advance(time.Hour)
	defer run(t, b.reconciler())()
	require.Eventually(t, func() bool { return b.has("TimeActivity", lost.ID) }, patient, time.Millisecond)
	all := b.outages()
	require.Len(t, all, 1)
	require.Equal(t, state.OutageUnwatched, all[0].Kind)
	require.WithinDuration(t, b.clock.Now().Add(-2*time.Hour), all[0].From, 0)
}

// A replica that died after it saw an outage and before every realm was due.
func TestOutage_ACrashForgetsNoRealm(t *testing.T) {
	t.Parallel()
	b, r := loaded(t, 20)
	stop := run(t, r)
	b.rest()
	stop()
	lost := b.create("Invoice")
	b.clock.Advance(20 * time.Minute)
	require.NoError(t, b.store.AddOutage(t.Context(), state.Outage{
		Kind: state.OutageBroker, From: b.clock.Now().Add(-time.Hour), To: b.clock.Now(),
	}))
	defer run(t, b.reconciler())()
	require.Eventually(t, func() bool { return b.has("Invoice", lost.ID) }, patient, time.Millisecond)
	b.rest()
}

func TestOutage_ABrokerThatForgotMakesRealmsDue(t *testing.T) {
	t.Parallel()
	b, r := loaded(t, 20)
	defer run(t, r)()
	b.rest()
	require.Eventually(t, func() bool {
		p, err := b.store.Position(t.Context())
		return err == nil && p.Created != ""
	}, patient, time.Millisecond)
	require.Empty(t, b.outages())

	b.feed.stop()
	js := b.jetStream(t)
	lost := b.create("Invoice")
	b.clock.Advance(20 * time.Minute)
	require.NoError(t, js.DeleteStream(t.Context(), stream.EventStream))
	require.NoError(t, b.conn.EnsureTopology(t.Context()))
	b.feed.start()
	require.Eventually(t, func() bool { return b.has("Invoice", lost.ID) }, patient, time.Millisecond)
	all := b.outages()
	require.NotEmpty(t, all)
	require.Equal(t, state.OutageBroker, all[0].Kind)
	require.Contains(t, all[0].Detail, "made anew")
}

// A parked realm that is connected again is due even if nobody says so.
func TestOutage_AReconnectIsFoundBySomebodyElse(t *testing.T) {
	t.Parallel()
	b, r := loaded(t, 10)
	b.sim.RevokeRealm(realm)
	b.clock.Advance(2 * time.Hour)
	stop := run(t, r)
	require.Eventually(t, func() bool {
		conn, err := b.connections.Get(t.Context(), realm)
		return err == nil && conn.State != "live"
	}, patient, time.Millisecond)
	require.Eventually(t, func() bool {
		due, err := b.store.Due(t.Context(), realm)
		return err == nil && due.After(b.clock.Now()) && due.Before(b.clock.Now().Add(time.Hour))
	}, patient, time.Millisecond)
	stop()
	lost := b.create("TimeActivity")
	b.clock.Advance(time.Hour)
	b.connect()
	calls := b.sim.Stats().Calls
	defer run(t, b.reconciler())() // it has never seen the realm parked
	require.Eventually(t, func() bool { return b.has("TimeActivity", lost.ID) }, patient, time.Millisecond)
	require.Greater(t, b.sim.Stats().Calls, calls)
}

// A hundred realms after a day in which no webhook came: each is scanned once, at the
// cost of looking at all.
func TestOutage_OfADayOverManyRealms(t *testing.T) {
	t.Parallel()
	const realms = 100
	b := setup(t)
	b.config.OutageGap = time.Hour
	b.config.Realms = 8
	all := b.connectMany(realms)
	stop := run(t, b.reconciler())
	defer func() { stop() }()
	b.beat()
	b.restAll(all)
	stop()

	// The day: each realm changes and deletes, and no webhook comes.
	b.clock.Advance(12 * time.Hour)
	for i, one := range all {
		on := *b
		on.realm = one
		for range 3 + i%5 {
			on.step()
		}
		gone := on.create("Invoice")
		require.NoError(t, b.sim.Delete(gone))
	}
	b.clock.Advance(12 * time.Hour)
	before := b.sim.Stats().CallsByKind
	stop = run(t, b.reconciler())
	b.beat()
	b.restAll(all)
	require.Eventually(t, func() bool {
		for _, one := range all {
			on := *b
			on.realm = one
			if !on.equal() {
				return false
			}
		}
		return true
	}, patient, 10*time.Millisecond)
	after := b.sim.Stats().CallsByKind
	// One call of CDC a realm; of what it leaves out, a Query for each entity, and a
	// count where an older record was delivered, which may be gone.
	least := realms
	for _, one := range all {
		least += b.leastQueries(one)
	}
	calls := after["cdc"] - before["cdc"] + after["query"] - before["query"]
	t.Logf("%d calls for %d realms, %d at least: × %.3f", calls, realms, least, float64(calls)/float64(least))
	require.LessOrEqual(t, float64(calls), 1.2*float64(least))
	require.Equal(t, realms, after["cdc"]-before["cdc"])
}

// leastQueries is how many calls tell what has changed in the entities that CDC leaves
// out.
func (b *bundle) leastQueries(realm string) int {
	n := len(b.config.QueryEntities)
	for _, name := range b.config.QueryEntities {
		for ref := range b.feed.versions("ledger", realm) {
			if ref.Entity == name {
				n++
				break
			}
		}
	}
	return n
}

// connectMany connects realms with some records each.
func (b *bundle) connectMany(n int) []string {
	b.t.Helper()
	all := make([]string, n)
	all[n-1] = b.realm
	for i := range all[:n-1] {
		all[i] = fmt.Sprintf("91303477%08d", i)
		on := *b
		on.realm = all[i]
		on.connect()
		for range 8 {
			on.step()
		}
	}
	b.clock.Advance(time.Hour)
	return all
}

// restAll waits until a running reconciler has scanned what is due.
func (b *bundle) restAll(realms []string) {
	b.t.Helper()
	for _, one := range realms {
		on := *b
		on.realm = one
		on.rest()
	}
}

func TestOutage_Of31DaysWithDeletions(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.config.OutageGap = time.Hour
	invoices, activities := b.many("Invoice", 1300), b.many("TimeActivity", 30)
	stop := run(t, b.reconciler())
	b.beat()
	b.rest()
	b.requireEqual()
	stop()

	b.clock.Advance(12 * time.Hour)
	b.delete(invoices[:20]...) // QuickBooks will have forgotten these
	b.delete(activities[:5]...)
	for range 50 {
		b.step()
	}
	b.clock.Advance(20 * 24 * time.Hour)
	b.delete(invoices[20:40]...)
	for range 50 {
		b.step()
	}
	b.clock.Advance(10*24*time.Hour + 12*time.Hour)
	defer run(t, b.reconciler())()
	b.beat()
	b.missed(25) // of the last month CDC tells
	require.Eventually(t, b.equal, patient, 10*time.Millisecond)
	b.rest()
	b.requireHonest()
	b.clock.Advance(24 * time.Hour)
	require.Eventually(t, func() bool { return len(b.behind()) == 0 }, patient, 10*time.Millisecond)
}

package reconciler_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/reconciler"
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
	b, r := loaded(t, 20)
	b.use(r, "TimeActivity")
	b.config.OutageGap = 10 * time.Minute
	r = b.reconciler()
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
	b.restWithin(patient)
}

func (b *bundle) restWithin(bound time.Duration) {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		due, err := b.store.Due(b.t.Context(), b.realm)
		require.NoError(b.t, err)
		w, err := b.store.Watch(b.t.Context())
		require.NoError(b.t, err)
		return due.After(b.clock.Now().Add(b.config.Interval/2)) && !w.Pending()
	}, bound, time.Millisecond)
}

// Of so long a time there is no record: the realms become due over a day.
func TestOutage_NobodyListenedCountsAsOne(t *testing.T) {
	t.Parallel()
	b, r := loaded(t, 20)
	b.use(r, "TimeActivity")
	b.config.OutageGap = 10 * time.Minute
	r = b.reconciler()
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
	now := b.clock.Now()
	stop = run(t, b.reconciler())
	b.watched()
	all := b.outages()
	require.Len(t, all, 1)
	require.Equal(t, state.OutageUnwatched, all[0].Kind)
	require.WithinDuration(t, now.Add(-2*time.Hour), all[0].From, 0)
	require.Eventually(t, func() bool {
		w, err := b.store.Watch(t.Context())
		return err == nil && !w.Pending()
	}, patient, time.Millisecond)
	require.False(t, b.due().After(now.Add(b.config.Interval)))
	stop()
	b.config.OutageGap = never
	b.clock.Advance(b.config.Interval)
	defer run(t, b.reconciler())()
	require.Eventually(t, func() bool { return b.has("TimeActivity", lost.ID) }, patient, time.Millisecond)
}

// use has the realm use an entity that only Query can find.
func (b *bundle) use(r *reconciler.Reconciler, names ...string) {
	b.t.Helper()
	for _, name := range names {
		b.create(name)
	}
	b.clock.Advance(time.Hour)
	b.reconcile(r)
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
	require.Contains(t, all[0].Detail, "was recreated")
}

// A parked realm that is connected again is due even if nobody says so.
func TestOutage_AReconnectIsFoundBySomebodyElse(t *testing.T) {
	t.Parallel()
	b, r := loaded(t, 10)
	b.use(r, "TimeActivity")
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
	b.config.Realms = 8
	all := b.connectMany(realms)
	stop := run(t, b.reconciler())
	defer func() { stop() }()
	b.restAll(all)
	stop()

	used := map[string]map[string]bool{}
	for _, one := range all {
		used[one] = b.usedOf(one)
	}
	// The day: each realm changes and deletes, and no webhook comes.
	from := b.clock.Now()
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
	require.NoError(t, b.store.AddOutage(t.Context(), state.Outage{Kind: state.OutageIngress, From: from, To: b.clock.Now()}))
	least := realms
	for _, one := range all {
		least += 2 * len(used[one])
	}
	before := b.sim.Stats().CallsByKind
	stop = run(t, b.reconciler())
	b.restAll(all)
	after := b.sim.Stats().CallsByKind
	// One call of CDC a realm; of what it leaves out, a Query for each entity that the
	// realm used, and a count of its older records, which may be gone.
	calls := after["cdc"] - before["cdc"] + after["query"] - before["query"]
	t.Logf("%d calls for %d realms, %d at least: × %.3f; %d for 1,000", calls, realms, least, float64(calls)/float64(least), calls*1000/realms)
	require.LessOrEqual(t, float64(calls), 1.2*float64(least))
	require.Equal(t, realms, after["cdc"]-before["cdc"])

	// What the realms used before is equal at once. The first record of an entity that
	// only Query can find is found on its turn: see TestUse.
	differs := func(realm string) []string {
		on := *b
		on.realm = realm
		return on.differing("ledger")
	}
	for _, one := range all {
		require.Eventually(t, func() bool {
			return !slices.ContainsFunc(differs(one), func(name string) bool {
				return used[one][name] || slices.Contains(b.config.CDCEntities, name)
			})
		}, patient, 10*time.Millisecond, "%s", one)
	}
}

// week lets a running reconciler scan the realms for as long as the turns of all entities
// take.
func (b *bundle) week(realms []string) {
	b.t.Helper()
	for range 8 {
		b.clock.Advance(b.config.Interval)
		b.restAll(realms)
	}
}

// differing are the entities of which a sink has something else than QuickBooks.
func (b *bundle) differing(sink string) []string {
	have := b.feed.versions(sink, b.realm)
	var names []string
	for ref, truth := range b.sim.Truth(b.realm) {
		version, known := have[state.Ref{Entity: ref.Entity, ID: ref.ID}]
		if truth.Deleted && known && !qbo.IsTombstone(version) || !truth.Deleted && version != truth.Version {
			names = append(names, ref.Entity)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// usedOf are the entities that only Query can find and of which the realm has records.
func (b *bundle) usedOf(realm string) map[string]bool {
	used := map[string]bool{}
	for ref := range b.feed.versions("ledger", realm) {
		if slices.Contains(b.config.QueryEntities, ref.Entity) {
			used[ref.Entity] = true
		}
	}
	return used
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
		on.restWithin(4 * patient) // the first one waits for nearly all
	}
}

func TestOutage_Of31DaysWithDeletions(t *testing.T) {
	t.Parallel()
	b := setup(t)
	invoices, activities := b.many("Invoice", 1300), b.many("TimeActivity", 30)
	stop := run(t, b.reconciler())
	b.rest()
	b.requireEqual()
	stop()

	from := b.clock.Now()
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
	require.NoError(t, b.store.AddOutage(t.Context(), state.Outage{Kind: state.OutageIngress, From: from, To: b.clock.Now()}))
	defer run(t, b.reconciler())()
	b.beat()
	b.missed(25) // of the last month CDC tells
	require.Eventually(t, func() bool {
		return !slices.ContainsFunc(b.differing("ledger"), func(name string) bool {
			return name == "TimeActivity" || slices.Contains(b.config.CDCEntities, name)
		})
	}, patient, 10*time.Millisecond)
	b.rest()
	b.requireHonest()
	b.week([]string{realm}) // for the first records of what the realm did not use
	require.Eventually(t, b.equal, patient, 10*time.Millisecond)
	b.reconcile(b.reconciler())
	require.Eventually(t, func() bool { return len(b.behind()) == 0 }, patient, 10*time.Millisecond)
}

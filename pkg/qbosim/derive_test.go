package qbosim_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
)

// amount is a field of a record as the API shows it.
func amount(t *testing.T, raw []byte, field string) string {
	t.Helper()
	var doc map[string]any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	require.NoError(t, d.Decode(&doc))
	n, ok := doc[field].(json.Number)
	require.True(t, ok, "%s: %s", field, raw)
	return n.String()
}

func TestDerive_MovesTheTimeAndNotTheSyncToken(t *testing.T) {
	t.Parallel()
	for name, field := range map[string]string{"Customer": "Balance", "Vendor": "Balance", "Item": "QtyOnHand", "Account": "CurrentBalance"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newApp(t, always)
			b := subscribed(t, a)
			ref := b.create(name, nil)
			created := b.Truth(realm)[ref]
			b.Advance(10 * time.Minute)
			since := b.Now()
			require.NoError(t, b.Derive(ref, false))
			first := b.Truth(realm)[ref]
			require.Equal(t, created.SyncToken, first.SyncToken)
			require.Equal(t, since, first.LastUpdated)
			require.Greater(t, first.Version, created.Version)
			require.True(t, first.Derived)
			require.Equal(t, b.cdc(name, since).of(t, name)[0].MetaData.LastUpdatedTime, metaOf(t, first.Raw).LastUpdatedTime)
			require.Equal(t, metaOf(t, created.Raw).CreateTime, metaOf(t, first.Raw).CreateTime)

			require.NoError(t, b.Derive(ref, false), "within the same second")
			second := b.Truth(realm)[ref]
			require.Equal(t, first.Version, second.Version, "two states, one version")
			require.NotEqual(t, amount(t, first.Raw, field), amount(t, second.Raw, field))

			b.Advance(10 * time.Minute)
			require.NoError(t, b.Derive(ref, true))
			silent := b.Truth(realm)[ref]
			require.Equal(t, second.Version, silent.Version)
			require.Equal(t, second.LastUpdated, silent.LastUpdated)
			require.Equal(t, metaOf(t, second.Raw), metaOf(t, silent.Raw))
			require.NotEqual(t, amount(t, second.Raw, field), amount(t, silent.Raw, field))
			require.Empty(t, b.cdc(name, since.Add(time.Second)).of(t, name), "no new version, nothing for CDC")
			require.Len(t, b.cdc(name, since).of(t, name), 1)

			history := b.History(ref)
			require.Len(t, history, 4)
			for n, state := range history {
				require.Equal(t, n+1, state.Revision)
			}
			require.Empty(t, cmp.Diff(silent, history[3]), "the last one counts")
			b.flush()
			require.Len(t, a.events(t), 1, "of the creation only")
		})
	}
}

func metaOf(t *testing.T, raw []byte) (meta struct{ CreateTime, LastUpdatedTime string }) {
	t.Helper()
	var o object
	require.NoError(t, json.Unmarshal(raw, &o))
	meta.CreateTime, meta.LastUpdatedTime = o.MetaData.CreateTime, o.MetaData.LastUpdatedTime
	return meta
}

func TestDerive_RefusesWhatFollowsFromNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.ErrorIs(t, b.Derive(b.create("Invoice", nil), false), qbosim.ErrNotSupported)
	gone := b.create("Customer", nil)
	require.NoError(t, b.HardDelete(gone))
	require.ErrorIs(t, b.Derive(gone, false), qbosim.ErrNotFound)
}

// A lagging replica shows a silent change as late as any other.
func TestDerive_LagsLikeOtherWrites(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *qbosim.Options) { o.Faults.ReadLag = time.Minute })
	ref := b.create("Vendor", nil)
	b.Advance(10 * time.Minute)
	require.NoError(t, b.Derive(ref, true))
	require.Zero(t, b.query("SELECT * FROM Vendor")[0].Balance)
	require.Zero(t, b.query("SELECT * FROM Vendor WHERE MetaData.LastUpdatedTime >= '2026-11-23'")[0].Balance)
	b.Advance(time.Minute)
	require.NotZero(t, b.query("SELECT * FROM Vendor")[0].Balance)
	require.NotZero(t, b.query("SELECT * FROM Vendor WHERE MetaData.LastUpdatedTime >= '2026-11-23'")[0].Balance)
}

// outcome is what a run of steps left: states by kind, and webhook events.
type outcome struct {
	derived, silent, backward, shared int
	entities                          map[string]int
	raw                               []string
}

func stepped(t *testing.T, seed uint64, faults qbosim.Faults) (outcome, *bundle, *app) {
	t.Helper()
	a := newApp(t, always)
	b := subscribed(t, a, func(o *qbosim.Options) { o.Seed, o.Faults = seed, faults })
	b.create("Account", map[string]any{"Name": "Checking"})
	for range 400 {
		_, err := b.Step(realm)
		require.NoError(t, err)
		b.Advance(250 * time.Millisecond)
	}
	got := outcome{entities: map[string]int{}}
	for ref := range b.Truth(realm) {
		history := b.History(ref)
		for n, state := range history {
			if !state.Derived {
				got.raw = append(got.raw, string(state.Raw))
			}
			if n == 0 {
				continue
			}
			last := history[n-1]
			switch {
			case state.Derived:
				got.derived++
				got.entities[ref.Entity]++
				require.Equal(t, last.SyncToken, state.SyncToken)
				if state.LastUpdated.Equal(last.LastUpdated) && metaOf(t, state.Raw) == metaOf(t, last.Raw) {
					got.silent++
				}
			case state.LastUpdated.Before(last.LastUpdated):
				got.backward++
				require.Equal(t, last.LastUpdated.Add(-time.Second), state.LastUpdated)
				require.Less(t, state.Version, last.Version)
				require.NotEqual(t, last.SyncToken, state.SyncToken)
			}
			if state.Version == last.Version {
				got.shared++
			}
		}
	}
	return got, b, a
}

func TestDerive_FollowsFromAShareOfTransactions(t *testing.T) {
	t.Parallel()
	none, _, _ := stepped(t, 1, qbosim.Faults{})
	require.Zero(t, none.derived+none.shared+none.backward)

	some, b, a := stepped(t, 1, qbosim.Faults{Derived: 0.4, SilentDerived: 0.2})
	require.InDelta(t, 100, some.derived, 35, "of some 250 changes of transactions")
	require.InDelta(t, some.derived/5, some.silent, 15)
	require.GreaterOrEqual(t, some.shared, some.silent)
	for _, name := range []string{"Customer", "Vendor", "Item", "Account"} {
		require.Positive(t, some.entities[name], name)
	}
	b.flush()
	withWebhook := len(a.events(t))
	_, b, a = stepped(t, 1, qbosim.Faults{})
	b.flush()
	require.InDelta(t, some.derived/2, withWebhook-len(a.events(t)), 20, "half of them have a webhook")

	again, _, _ := stepped(t, 1, qbosim.Faults{Derived: 0.4, SilentDerived: 0.2})
	require.Equal(t, some.derived, again.derived)
	require.ElementsMatch(t, some.raw, again.raw)
	require.Equal(t, some.entities, again.entities)
	other, _, _ := stepped(t, 2, qbosim.Faults{Derived: 0.4, SilentDerived: 0.2})
	require.NotEqual(t, some.entities, other.entities)
}

func TestBackwardTime_WritesUpdatesOnceMore(t *testing.T) {
	t.Parallel()
	got, b, a := stepped(t, 1, qbosim.Faults{BackwardTime: 0.3})
	require.InDelta(t, 40, got.backward, 20)
	b.flush()
	require.Positive(t, len(a.events(t)))

	b = setup(t, func(o *qbosim.Options) { o.Faults.BackwardTime = 1 })
	ref := b.create("Invoice", nil)
	require.Len(t, b.History(ref), 1, "a creation is written once")
	b.Advance(10 * time.Minute)
	at := b.Now()
	require.NoError(t, b.Update(ref, nil))
	state := b.Truth(realm)[ref]
	require.Equal(t, "2", state.SyncToken)
	require.Equal(t, at.Add(-time.Second), state.LastUpdated)
	require.Empty(t, b.cdc("Invoice", at).of(t, "Invoice"), "its time is a second before")
	shown := b.cdc("Invoice", at.Add(-time.Second)).of(t, "Invoice")
	require.Len(t, shown, 1)
	require.Equal(t, "2", shown[0].SyncToken)
	require.Equal(t, "2", b.query("SELECT * FROM Invoice ORDERBY MetaData.LastUpdatedTime")[0].SyncToken)
	b.SetFaults(qbosim.Faults{})
	later := b.create("Invoice", nil)
	require.Equal(t, []string{ref.ID, later.ID}, ids(b.query("SELECT * FROM Invoice ORDERBY MetaData.LastUpdatedTime")))
}

func TestBackwardTime_TheEventBearsTheTimeOfTheRecord(t *testing.T) {
	t.Parallel()
	a := newApp(t, always)
	b := subscribed(t, a, func(o *qbosim.Options) { o.Faults.BackwardTime = 1 })
	ref := b.create("Bill", nil)
	b.Advance(10 * time.Minute)
	require.NoError(t, b.Update(ref, nil))
	b.flush()
	events := a.events(t)
	require.Len(t, events, 3)
	require.Equal(t, b.Now().Add(-time.Second), events[2].OccurredAt.Truncate(time.Second))
}

func TestDerive_SurvivesARestart(t *testing.T) {
	t.Parallel()
	clock := newClock()
	faults := qbosim.Faults{Derived: 0.5, SilentDerived: 0.3, BackwardTime: 0.3, WrongDeletes: 0.2}
	o := journaled(t, func(o *qbosim.Options) { o.Now, o.Faults = clock.Now, faults })
	step := func(sim *qbosim.Sim, n int) {
		for range n {
			_, err := sim.Step(realm)
			require.NoError(t, err)
			clock.Advance(300 * time.Millisecond)
		}
	}
	first := open(t, o)
	first.AddRealm(realm)
	step(first, 150)
	require.NoError(t, first.Close())
	second := open(t, o)
	require.Empty(t, cmp.Diff(all(first, realm), all(second, realm)))
	step(second, 150)

	clock.Advance(-300 * 300 * time.Millisecond)
	whole := open(t, qbosim.Options{Seed: o.Seed, Now: clock.Now, Faults: faults})
	whole.AddRealm(realm)
	step(whole, 300)
	require.Empty(t, cmp.Diff(all(whole, realm), all(second, realm)), "a restart in the middle changes nothing")
}

func TestControl_Derives(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ref := b.create("Customer", nil)
	body := `{"operation":"derive","realm":"` + realm + `","entity":"Customer","id":"1","silent":true}`
	require.Equal(t, 200, b.control(http.MethodPost, "change", body, nil))
	var history []struct {
		Revision int
		Derived  bool
	}
	require.Equal(t, 200, b.control(http.MethodGet, "history?realm="+realm+"&entity=Customer&id="+ref.ID, "", &history))
	require.Equal(t, 2, history[1].Revision)
	require.True(t, history[1].Derived)
}

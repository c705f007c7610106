package diagnosis_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/diagnosis"
)

// lost has a scan find an update of an invoice that happened then, in each realm. The
// verdict is as a scan gives it that knows of no outage.
func (a *app) lost(at time.Time, realms ...string) {
	a.t.Helper()
	for _, realm := range realms {
		a.gap(state.Gap{Realm: realm, Event: at, Operation: "update", Verdict: state.VerdictLost})
	}
}

func (a *app) gap(g state.Gap) {
	a.t.Helper()
	a.n++
	g.Ref, g.Version, g.Found, g.Source = state.Ref{Entity: "Invoice", ID: a.id()}, int64(a.n), a.now, "cdc"
	fresh, err := a.store.NoteGaps(a.t.Context(), g.Realm, []state.Gap{g})
	require.NoError(a.t, err)
	require.NoError(a.t, a.store.CountGaps(a.t.Context(), g.Realm, fresh, map[state.Kind]bool{{Entity: "Invoice", Operation: "update"}: true}))
}

func (a *app) id() string { return string(rune('A'+a.n%26)) + string(rune('A'+a.n/26)) }

// bills has webhooks of bills come to realms now.
func (a *app) bills(realms ...string) {
	a.t.Helper()
	for _, realm := range realms {
		a.told(realm, "Bill", "create", 1, 0)
	}
}

var three = []string{"1", "2", "3"}

// untick has updates of invoices come to three realms, and no more from then on.
func (a *app) untick() (since time.Time) {
	a.t.Helper()
	for _, realm := range three {
		a.told(realm, "Invoice", "update", 20, 0)
	}
	a.bills(three...)
	return a.now
}

const deselected = "deselected Invoice update"

func TestDeselected_SaysSinceWhen(t *testing.T) {
	a := newApp(t)
	a.untick()
	for hour := range 3 {
		require.NotContains(t, a.look(), deselected, "%d times may be bad luck", hour)
		a.now = a.now.Add(time.Hour)
		a.bills(three...)
		a.lost(a.now, "1", "2")
	}
	require.Equal(t, map[string]string{
		deselected: "Invoice updates are not selected since 2026-11-02 09:00:00: that was the last webhook of one, and scans found 6 in 2 realms since, while webhooks of other kinds came.",
	}, a.look())
	gaps, err := a.store.Gaps(t.Context(), "1", 10)
	require.NoError(t, err)
	found, err := a.store.Deselected(t.Context())
	require.NoError(t, err)
	state.ExplainGaps(gaps, found)
	require.Len(t, gaps, 3)
	for _, g := range gaps {
		require.Equal(t, state.VerdictDeselected, g.Verdict, "those from before it was known too")
	}

	// It is ticked again.
	a.now = a.now.Add(time.Hour)
	a.told("3", "Invoice", "update", 1, 0)
	require.NotContains(t, a.look(), deselected)
}

// A scan a day finds the changes of the day, long after them.
func TestDeselected_IsSeenByAScanADay(t *testing.T) {
	a := newApp(t)
	since := a.untick()
	for hour := range 12 {
		a.now = since.Add(time.Duration(hour) * time.Hour)
		a.bills(three...)
	}
	a.now = since.Add(20 * time.Hour)
	for hour := range 3 {
		a.lost(since.Add(time.Duration(2+hour)*time.Hour), "1", "3")
	}
	require.Contains(t, a.look(), deselected)
}

// A merge counts for a deletion, as a scan cannot tell them apart.
func TestDeselected_AMergeIsADeletion(t *testing.T) {
	a := newApp(t)
	a.told("1", "Vendor", "merge", 1, 0)
	since := a.now
	for range 3 {
		a.now = a.now.Add(time.Hour)
		a.bills(three...)
		a.found("1", "Vendor", "delete", state.VerdictLost, 1)
		a.found("2", "Vendor", "delete", state.VerdictLost, 1)
	}
	a.now = a.now.Add(time.Hour)
	a.bills(three...)
	a.found("1", "Vendor", "delete", state.VerdictLost, 1)
	a.found("2", "Vendor", "delete", state.VerdictLost, 1)
	found, err := a.store.Deselected(t.Context())
	require.NoError(t, err)
	require.Equal(t, since, found[state.Kind{Entity: "Vendor", Operation: "delete"}].Since.UTC())
}

// All kinds stop and begin again: the changes in between had no webhooks of any kind, but
// in the ten minutes in which the outage began and ended.
func TestDeselected_AnOutageIsNone(t *testing.T) {
	a := newApp(t)
	since := a.untick()
	a.now = since.Add(3 * time.Hour)
	a.bills(three...)
	for after := time.Duration(0); after <= 3*time.Hour; after += 10 * time.Minute {
		a.lost(since.Add(after), three...)
	}
	require.NotContains(t, a.look(), deselected)

	// One that the ingress knows of says so by itself.
	for range 3 {
		a.now = a.now.Add(time.Hour)
		a.bills(three...)
		for _, realm := range three {
			a.gap(state.Gap{Realm: realm, Event: a.now, Operation: "update", Verdict: state.VerdictOutage})
		}
	}
	require.NotContains(t, a.look(), deselected)
}

// The URL in the portal was changed: nothing comes any more, of any kind.
func TestDeselected_AChangedEndpointIsNone(t *testing.T) {
	a := newApp(t)
	a.untick()
	for range 10 {
		a.now = a.now.Add(time.Hour)
		a.lost(a.now, three...)
	}
	require.NotContains(t, a.look(), deselected)
}

// The URL of one app was changed, and another app's webhooks come.
func TestDeselected_AChangedEndpointOfOneOfTwoAppsIsNone(t *testing.T) {
	a := newApp(t)
	a.untick()
	for range 10 {
		a.now = a.now.Add(time.Hour)
		a.bills("91", "92", "93")
		a.lost(a.now, three...)
	}
	require.NotContains(t, a.look(), deselected)
}

// A company is named as people know it.
func TestLook_NamesACompany(t *testing.T) {
	a := newApp(t)
	a.told("1", "Invoice", "update", 5, time.Second)
	require.NoError(t, a.store.SetCompany(t.Context(), state.Company{Realm: "3", Name: "Larry's", ReadAt: a.now}))
	a.found("3", "Invoice", "update", state.VerdictLost, 3)
	require.Contains(t, a.look()["silent-realm 3 "], "Realm 3 (Larry's) has never had a webhook")
}

func TestDeselected_OneNoisyRealmIsNone(t *testing.T) {
	a := newApp(t)
	a.untick()
	for range 20 {
		a.now = a.now.Add(time.Hour)
		a.bills(three...)
		a.lost(a.now, "2")
	}
	require.NotContains(t, a.look(), deselected)
	a.lost(a.now, "3")
	require.NotContains(t, a.look(), deselected, "one of another realm may be bad luck")
}

// Balances move without a webhook, as far as anybody knows.
func TestDeselected_DerivedFieldsAreNone(t *testing.T) {
	a := newApp(t)
	a.untick()
	for range 5 {
		a.now = a.now.Add(time.Hour)
		a.bills(three...)
		for _, realm := range three {
			a.gap(state.Gap{Realm: realm, Event: a.now, Operation: "update", Verdict: state.VerdictLost, Derived: true})
		}
	}
	require.NotContains(t, a.look(), deselected)
}

// What is remembered is bounded, and a crowd of realms hides nothing.
func TestDeselected_OfManyRealms(t *testing.T) {
	a := newApp(t)
	a.untick()
	var many []string
	for i := range 60 {
		many = append(many, string(rune('1'+i/10))+string(rune('0'+i%10)))
	}
	for range 8 {
		a.now = a.now.Add(time.Hour)
		a.bills(many...)
		a.lost(a.now, many...)
	}
	found, err := diagnosis.Look(t.Context(), a.store, a.now)
	require.NoError(t, err)
	require.Equal(t, diagnosis.Deselected, found[0].Kind)
	require.EqualValues(t, 300, found[0].Gaps, "six of fifty realms")
	realms, err := a.store.Redis().HLen(t.Context(), "lf:1:unheard:{app}:Invoice:update").Result()
	require.NoError(t, err)
	require.EqualValues(t, 50, realms)
	a.now = a.now.Add(40 * 24 * time.Hour)
	a.bills("1")
	n, err := a.store.Redis().ZCard(t.Context(), "lf:1:live:{app}").Result()
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
}

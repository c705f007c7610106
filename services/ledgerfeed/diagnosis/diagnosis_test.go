package diagnosis_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/diagnosis"
)

const day = 24 * time.Hour

// app is what webhooks and scans have told of one.
type app struct {
	t     *testing.T
	store *state.Store
	now   time.Time
	n     int
}

func newApp(t *testing.T) *app {
	t.Helper()
	a := &app{t: t, now: time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)}
	var err error
	a.store, err = state.Open(t.Context(), state.Options{Config: state.Config{URL: secret.String(devtest.Redis(t))}, Now: func() time.Time { return a.now }})
	require.NoError(t, err)
	t.Cleanup(func() { a.store.Close() })
	return a
}

// told has webhooks tell of n changes.
func (a *app) told(realm, entity, operation string, n int, lag time.Duration) {
	a.t.Helper()
	x := a.store.Sightings(nil)
	for range n {
		a.n++
		x.Note(realm, state.Webhook{
			Kind: state.Kind{Entity: entity, Operation: operation}, ID: fmt.Sprint(a.n), Event: a.now.Add(-lag), Received: a.now, First: true,
		})
	}
	require.NoError(a.t, x.Flush(a.t.Context()))
}

// found has a scan find n changes.
func (a *app) found(realm, entity, operation, verdict string, n int) {
	a.t.Helper()
	var gaps []state.Gap
	for range n {
		a.n++
		gaps = append(gaps, state.Gap{
			Realm: realm, Ref: state.Ref{Entity: entity, ID: fmt.Sprint(a.n)}, Version: int64(a.n), Found: a.now,
			Event: a.now.Add(-time.Hour), Operation: operation, Source: "cdc", Verdict: verdict,
		})
	}
	fresh, err := a.store.NoteGaps(a.t.Context(), realm, gaps)
	require.NoError(a.t, err)
	first := map[state.Kind]bool{{Entity: entity, Operation: operation}: true}
	require.NoError(a.t, a.store.CountGaps(a.t.Context(), realm, fresh, first))
}

// look is what is said, by what it is about.
func (a *app) look() map[string]string {
	a.t.Helper()
	found, err := diagnosis.Look(a.t.Context(), a.store, a.now)
	require.NoError(a.t, err)
	said := map[string]string{}
	for _, f := range found {
		require.NotEmpty(a.t, f.Advice)
		said[f.Kind+" "+f.Realm+f.Entity+" "+f.Operation] = f.Text
	}
	return said
}

func TestLook_SaysWhatNeverComes(t *testing.T) {
	a := newApp(t)
	require.Empty(t, a.look(), "nothing has happened")
	a.told("1", "Invoice", "create", 5, time.Second)
	a.found("1", "Invoice", "update", state.VerdictNotSelected, 2)
	require.Empty(t, a.look(), "two may be bad luck")
	a.found("1", "Invoice", "update", state.VerdictNotSelected, 2)
	require.Equal(t, map[string]string{
		"not-selected Invoice update": "Invoice updates never come by webhook in any realm: 4 were found by scans.",
	}, a.look())

	// Of what no webhook was due for nothing is said.
	for range 3 {
		a.found("2", "TaxCode", "update", state.VerdictNoWebhooks, 5)
		a.found("2", "Bill", "create", state.VerdictBeforeConnection, 5)
	}
	require.Len(t, a.look(), 1)

	a.told("7", "Invoice", "update", 1, time.Second)
	require.Empty(t, a.look(), "one came, in another realm")
}

func TestLook_SaysThatNothingComesAtAll(t *testing.T) {
	a := newApp(t)
	a.found("1", "Invoice", "update", state.VerdictLost, 2)
	a.found("1", "Bill", "create", state.VerdictLost, 2)
	require.Equal(t, map[string]string{
		"no-webhooks-at-all  ": "No webhook has ever come, in any realm: all of 4 changes were found by scans.",
	}, a.look())
}

func TestLook_SaysWhatComesNoMore(t *testing.T) {
	a := newApp(t)
	a.told("1", "Invoice", "update", 50, time.Second)
	a.told("1", "Bill", "create", 1, time.Second)
	a.now = a.now.Add(10 * day)
	a.told("1", "Bill", "create", 1, time.Second)
	for range 2 {
		a.found("1", "Invoice", "update", state.VerdictLost, 20)
	}
	require.Equal(t, map[string]string{
		"ceased Invoice update": "Invoice updates come by webhook no more: the last was of 2026-11-02, and 40 were found by scans in 7 days.",
	}, a.look())
}

func TestLook_SaysThatCoverageFell(t *testing.T) {
	a := newApp(t)
	a.told("1", "Invoice", "update", 99, time.Second)
	a.found("1", "Invoice", "update", state.VerdictLost, 1)
	a.now = a.now.Add(10 * day)
	a.told("1", "Invoice", "update", 97, time.Second)
	a.found("1", "Invoice", "update", state.VerdictLost, 3)
	require.Empty(t, a.look(), "two in a hundred are no fall")
	a.found("1", "Invoice", "update", state.VerdictOutage, 17)
	require.Equal(t, map[string]string{
		"coverage-fell Invoice update": "Webhook coverage of Invoice updates fell to 82.9 % in the last 7 days, from 99.0 % before: scans found 20 first.",
	}, a.look())
}

func TestLook_SaysThatWebhooksGetLost(t *testing.T) {
	a := newApp(t)
	a.told("1", "Invoice", "update", 500, time.Second)
	a.told("1", "Bill", "create", 500, time.Second)
	a.found("1", "Bill", "create", state.VerdictLost, 19)
	require.Empty(t, a.look(), "two in a hundred may be bad luck")
	a.found("1", "Invoice", "update", state.VerdictLost, 6)
	require.Equal(t, map[string]string{
		"lossy  ": "Webhooks get lost: of 1025 changes in the last 7 days, webhooks announced 97.6 % first, and scans found 25.",
	}, a.look())
}

func TestLook_SaysThatARealmIsSilent(t *testing.T) {
	a := newApp(t)
	a.told("1", "Invoice", "update", 5, time.Second)
	a.told("2", "Invoice", "update", 5, time.Second)
	a.now = a.now.Add(5 * day)
	a.told("1", "Invoice", "update", 5, time.Second)
	a.found("1", "Invoice", "update", state.VerdictLost, 4)
	a.found("2", "Invoice", "update", state.VerdictLost, 2)
	require.Empty(t, a.look(), "two may be bad luck")
	a.found("2", "Invoice", "update", state.VerdictLost, 2)
	a.found("3", "Invoice", "update", state.VerdictLost, 3)
	require.Equal(t, map[string]string{
		"silent-realm 2 ": "Realm 2 has had no webhook since 2026-11-02: scans found 4 changes there that other realms get webhooks for.",
		"silent-realm 3 ": "Realm 3 has never had a webhook: scans found 3 changes there that other realms get webhooks for.",
	}, a.look())
}

func TestLook_SaysThatWebhooksAreSlow(t *testing.T) {
	a := newApp(t)
	a.told("1", "Invoice", "update", 12, time.Second)
	a.told("1", "Invoice", "update", 11, 40*time.Minute)
	require.Empty(t, a.look(), "half of them are not")
	a.told("1", "Invoice", "update", 3, 40*time.Minute)
	require.Equal(t, map[string]string{
		"slow Invoice update": "Webhooks of Invoice updates come late: half of 26 took longer than 10m0s to reach the ingress.",
	}, a.look())
}

// What it costs does not depend on how many realms there are.
func TestLook_ReadsFewRealms(t *testing.T) {
	a := newApp(t)
	a.told("1", "Invoice", "update", 5, time.Second)
	for i := range 500 {
		a.found(fmt.Sprint(1000+i), "Invoice", "update", state.VerdictLost, 3)
	}
	found, err := diagnosis.Look(t.Context(), a.store, a.now)
	require.NoError(t, err)
	silent := 0
	for _, f := range found {
		if f.Kind == diagnosis.Silent {
			silent++
		}
	}
	require.Equal(t, 20, silent)
	require.Empty(t, cmp.Diff(diagnosis.Error, found[0].Severity))
}

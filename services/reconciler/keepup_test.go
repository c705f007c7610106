package reconciler_test

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
	"github.com/ledgerfeed/ledgerfeed/services/reconciler"
)

// largeRealm is a bundle before a QuickBooks with so many invoices.
func largeRealm(t *testing.T, n int) (*bundle, *large) {
	t.Helper()
	b := setup(t)
	l := &large{n: n, padding: func(int) int { return 0 }, gone: func(int) bool { return false }, ahead: b.clock.Now().Sub(time.Now())}
	api := httptest.NewServer(l)
	t.Cleanup(api.Close)
	b.client = b.newClient(api.URL)
	b.config.CDCEntities, b.config.QueryEntities = []string{"Invoice"}, nil
	return b, l
}

// A sink takes nothing while more is read than a scan remembers: everything is published
// all the same, and the cursor says nothing of it.
func TestScan_MoreIsMissingThanItRemembers(t *testing.T) {
	t.Parallel()
	b, l := largeRealm(t, 45_000)
	b.config.VerifyTimeout = 300 * time.Millisecond
	b.feed.losing(func(*ledgerfeedv1.Event) bool { return true })
	report := b.request(b.reconciler(), reconciler.Request{Realms: []string{realm}})
	require.Empty(t, report.Errors)
	require.Equal(t, map[string][]string{realm: {"Invoice"}}, report.Incomplete)
	require.Equal(t, l.n, report.MissingQuery)
	require.Empty(t, b.cursors())
	require.Empty(t, b.scans(), "no scan holds all of it")
	require.Eventually(t, func() bool { return len(b.feed.seen()) == l.n }, patient, 10*time.Millisecond)

	b.feed.losing(nil)
	b.config.VerifyTimeout = time.Minute
	b.reconcile(b.reconciler())
	require.NotZero(t, b.cursors()["Invoice"])
	require.Len(t, b.feed.versions("ledger", realm), l.n)
}

// The newest state that any sink has is what was missed, whichever sink shows it first.
func TestAbsence_SinksMayBeAtDifferentStates(t *testing.T) {
	t.Parallel()
	b, r := loaded(t, 0)
	gone := b.create("TimeActivity")
	b.many("TimeActivity", 3)
	b.feed.lateSink("zebra")
	_, err := b.store.RegisterSinks(t.Context(), b.feed.sinks)
	require.NoError(t, err)
	b.clock.Advance(time.Hour)
	b.reconcile(r)
	// In the same second, "zebra" was told another state.
	ref := state.Ref{Entity: gone.Entity, ID: gone.ID}
	require.NoError(t, b.store.Advance(t.Context(), realm, "zebra", []state.Advance{{Ref: ref, Version: b.feed.version(gone) + 1}}))
	b.delete(gone)
	b.clock.Advance(time.Hour)
	b.scheduled(r)
	require.Len(t, b.noted(), 1)
	b.clock.Advance(20 * time.Minute)
	b.scheduled(r)
	require.True(t, b.gone(gone))
}

package reconciler_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/reconciler"
)

func (b *bundle) ask(j state.Job) {
	b.t.Helper()
	j.Realm = b.realm
	_, fresh, err := b.store.Ask(b.t.Context(), j)
	require.NoError(b.t, err)
	require.True(b.t, fresh)
}

func (b *bundle) job() state.Job {
	b.t.Helper()
	j, err := b.store.Job(b.t.Context(), b.realm)
	require.NoError(b.t, err)
	return j
}

// over waits until the realm's job is over.
func (b *bundle) over() state.Job {
	b.t.Helper()
	require.Eventually(b.t, func() bool { return b.job().State.Over() }, patient, 5*time.Millisecond)
	return b.job()
}

func TestJob_IsScannedAtOnceAndTellsWhatItFound(t *testing.T) {
	t.Parallel()
	b, r := loaded(t, 10)
	stop := run(t, r)
	defer stop()
	b.rest()
	b.clock.Advance(time.Hour)
	lost, left := b.create("TimeActivity"), b.create("TaxCode")
	b.clock.Advance(time.Hour)
	b.ask(state.Job{Entities: []string{"Invoice", "TimeActivity"}, By: "a test"})
	j := b.over()
	require.Equal(t, state.JobDone, j.State, j.Error)
	require.True(t, b.has("TimeActivity", lost.ID))
	require.False(t, b.has("TaxCode", left.ID), "nobody asked for it")
	want := state.JobProgress{Entities: 2, EntitiesDone: 2, Missing: 1}
	j.Progress.Records, j.Progress.Expected, j.Progress.Calls = 0, 0, 0
	require.Empty(t, cmp.Diff(want, j.Progress))
	require.NotZero(t, j.Ended)

	b.ask(state.Job{})
	require.Equal(t, state.JobDone, b.over().State)
	require.True(t, b.has("TaxCode", left.ID))
}

func TestJob_OfAParkedRealmSaysSo(t *testing.T) {
	t.Parallel()
	b, _ := loaded(t, 5)
	b.sim.RevokeRealm(realm)
	b.clock.Advance(2 * time.Hour)
	b.config.StartJitter = never
	defer run(t, b.reconciler())()
	b.ask(state.Job{})
	j := b.over()
	require.Equal(t, state.JobFailed, j.State)
	require.Contains(t, j.Error, "parked")
}

// held is a QuickBooks that answers no Query for an entity until let go, after so
// many.
func (b *bundle) held(entity string, after int64) (begun *atomic.Int64, let func()) {
	begun = &atomic.Int64{}
	gate := make(chan struct{})
	var open atomic.Bool
	let = func() {
		if open.CompareAndSwap(false, true) {
			close(gate)
		}
	}
	b.t.Cleanup(let)
	b.between(func(w http.ResponseWriter, r *http.Request, quickbooks http.Handler) {
		if strings.HasPrefix(r.URL.Query().Get("query"), "SELECT * FROM "+entity+" ") && begun.Add(1) > after {
			select {
			case <-gate:
			case <-r.Context().Done():
				return
			}
		}
		quickbooks.ServeHTTP(w, r)
	})
	return begun, let
}

func TestJob_CancelledInTheMiddleLeavesTheCursors(t *testing.T) {
	t.Parallel()
	b, _ := loaded(t, 20)
	before := b.cursors()
	b.clock.Advance(time.Hour)
	begun, _ := b.held("Invoice", 0)
	b.config.StartJitter = never
	defer run(t, b.reconciler())()
	b.ask(state.Job{Load: true})
	require.Eventually(t, func() bool { return begun.Load() > 0 && b.job().State == state.JobRunning }, patient, time.Millisecond)
	_, err := b.store.Cancel(t.Context(), realm)
	require.NoError(t, err)
	require.Equal(t, state.JobCancelled, b.over().State)
	require.Equal(t, before["Invoice"], b.cursors()["Invoice"])
	b.requireHonest()
	open, err := b.store.Jobs(t.Context())
	require.NoError(t, err)
	require.Empty(t, open)
}

// The replica that loads a new company dies; the next one reads what is left.
func TestJob_ALoadGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const pages = 16
	b.many("Invoice", pages*1000)
	b.clock.Advance(time.Hour)
	begun, let := b.held("Invoice", 11)
	stop := run(t, b.reconciler())
	require.Eventually(t, func() bool { return begun.Load() > 11 }, patient, time.Millisecond)
	loaded, err := b.store.Loaded(t.Context(), realm)
	require.NoError(t, err)
	require.NotZero(t, loaded["Invoice"], "ten pages are delivered, or on their way")
	require.Zero(t, b.cursors()["Invoice"])
	require.Eventually(t, func() bool { return b.job().Progress.Expected == pages*1000+b.others() }, patient, time.Millisecond)
	stop()
	let()

	b.clock.Advance(time.Hour) // its claim runs out
	read := begun.Load()
	defer run(t, b.reconciler())()
	require.Equal(t, state.JobDone, b.over().State)
	require.Less(t, begun.Load()-read, int64(pages-4), "what was delivered is not read again")
	b.requireEqual()
	b.requireHonest()
	require.NotZero(t, b.cursors()["Invoice"])
	require.True(t, b.job().Progress.Resumed)
}

// others is what a load expects of other entities than invoices.
func (b *bundle) others() int {
	n := 0
	for ref := range b.sim.Truth(b.realm) {
		if ref.Entity != "Invoice" {
			n++
		}
	}
	return n
}

func TestJob_ABackfillFindsWhatNoCursorWould(t *testing.T) {
	t.Parallel()
	b, r := loaded(t, 0)
	b.many("Invoice", 5)
	gone := b.many("Bill", 3)
	b.clock.Advance(time.Hour)
	b.reconcile(r)
	// A sink that lost what it had: the marks of it are gone, too.
	lost := b.create("Invoice")
	b.clock.Advance(40 * 24 * time.Hour)
	b.delete(gone[0])
	b.clock.Advance(time.Hour)
	cursors := b.cursors()
	ahead := map[string]time.Time{}
	for name := range cursors {
		ahead[name] = b.clock.Now().Add(-30 * time.Minute)
	}
	require.NoError(t, b.store.AdvanceCursors(t.Context(), realm, ahead)) // they lie
	require.NoError(t, b.store.SetCounted(t.Context(), realm, map[string]time.Time{"Invoice": b.clock.Now()}))
	b.connect() // the tokens of 40 days ago are no more
	b.reconcile(b.reconciler())
	require.False(t, b.has("Invoice", lost.ID))

	b.config.StartJitter = never
	defer run(t, b.reconciler())()
	b.ask(state.Job{Load: true})
	j := b.over()
	require.Equal(t, state.JobDone, j.State, j.Error)
	require.True(t, b.has("Invoice", lost.ID))
	b.requireEqual()
}

// Several entities of one realm are read at the same time while it is loaded.
func TestJob_ALoadReadsEntitiesInParallel(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var under, most atomic.Int64
	b.between(func(w http.ResponseWriter, r *http.Request, quickbooks http.Handler) {
		n := under.Add(1)
		defer under.Add(-1)
		for {
			m := most.Load()
			if n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		<-time.After(5 * time.Millisecond) // QuickBooks takes its time
		quickbooks.ServeHTTP(w, r)
	})
	b.many("Invoice", 20)
	b.clock.Advance(time.Hour)
	var last state.JobProgress
	b.request(b.reconciler(), reconciler.Request{Wait: true, Progress: func(_ string, p state.JobProgress) { last = p }})
	require.Greater(t, most.Load(), int64(1))
	require.LessOrEqual(t, most.Load(), int64(4))
	require.Equal(t, last.Entities, last.EntitiesDone)
	b.requireEqual()
}

// Nothing is due for a day, and the first load is a job anybody can look at.
func TestJob_TheFirstLoadIsOne(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.many("Invoice", 20)
	b.clock.Advance(time.Hour)
	defer run(t, b.reconciler())()
	require.Eventually(t, func() bool {
		_, err := b.store.Job(t.Context(), realm)
		return err == nil
	}, patient, time.Millisecond)
	j := b.over()
	require.Equal(t, state.JobDone, j.State)
	require.Equal(t, 20, j.Progress.Records)
	require.Contains(t, j.By, "first load")
	b.rest()
	b.requireEqual()
}

package reconciler_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// A sweep that was broken off reads what it has not read yet; an old one reads all.
func TestSweep_GoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		began time.Duration
		noted int
		most  int
	}{
		"an hour ago":   {time.Hour, 5, 2600},
		"two days ago":  {48 * time.Hour, 10, 5100},
		"in the future": {-time.Hour, 5, 2600},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, l := largeRealm(t, 5000)
			l.gone = func(i int) bool { return i%500 == 7 }
			r := b.reconciler()
			b.reconcile(r)
			l.change(func() { l.lost, l.rows = true, 0 })
			require.NoError(t, b.store.SetCounted(t.Context(), realm, map[string]time.Time{"Invoice": b.clock.Now().Add(-8 * 24 * time.Hour)}))
			require.NoError(t, b.store.SetSwept(t.Context(), realm, "Invoice", state.Sweep{Began: b.clock.Now().Add(-test.began), At: updated(2500)}))
			b.scheduled(r)
			rows, _ := l.served()
			require.LessOrEqual(t, rows, test.most)
			require.Len(t, b.noted(), test.noted)
		})
	}
}

// What one sink calls deleted is told to the others, but not of a record that is there.
func TestSweep_NoSinksTombstoneOutweighsQuickBooks(t *testing.T) {
	t.Parallel()
	b, r := loaded(t, 0)
	refs := b.many("TimeActivity", 4)
	b.clock.Advance(time.Hour)
	b.reconcile(r)
	b.feed.lateSink("endpoint")
	_, err := b.store.RegisterSinks(t.Context(), b.feed.sinks)
	require.NoError(t, err)
	b.clock.Advance(time.Hour)
	b.reconcile(r)
	b.delete(refs[0])
	dead := qbo.TombstoneVersion(b.clock.Now())
	for _, ref := range refs[:2] { // of which one is wrong
		require.NoError(t, b.store.Advance(t.Context(), realm, "ledger", []state.Advance{{Ref: state.Ref{Entity: ref.Entity, ID: ref.ID}, Version: dead}}))
	}
	require.NoError(t, b.store.RewindCursors(t.Context(), realm, nil, time.Time{}))
	b.clock.Advance(time.Hour)
	b.reconcile(r)
	require.NotEmpty(t, b.evidence(refs[0]))
	require.Empty(t, b.evidence(refs[1]), "QuickBooks returns it")

	// One that no other sink has a mark of is told on the word of the sink.
	b.feed.lateSink("late")
	_, err = b.store.RegisterSinks(t.Context(), b.feed.sinks)
	require.NoError(t, err)
	b.clock.Advance(time.Hour)
	b.reconcile(r)
	evidence := b.evidence(refs[0])
	require.Equal(t, ledgerfeedv1.Evidence_EVIDENCE_SINK, evidence[len(evidence)-1])
}

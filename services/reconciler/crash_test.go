package reconciler_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
	"github.com/ledgerfeed/ledgerfeed/services/reconciler"
)

func TestCrash_BeforePublishing(t *testing.T) {
	t.Parallel()
	b, _ := loaded(t, 30)
	before := b.cursors()
	b.clock.Advance(time.Hour)
	b.create("Invoice")
	b.clock.Advance(time.Hour)

	conn := b.conn
	b.conn = b.dial(b.natsURL)
	b.conn.Close() // the scan is remembered, and nothing of it gets out
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := b.reconciler().Reconcile(ctx, reconciler.Request{})
		ended <- err
	}()
	require.Eventually(t, func() bool { return len(b.scans()) == 1 }, patient, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	require.Empty(t, b.feed.seenSince("Invoice", before["Invoice"]))
	require.Equal(t, before["Invoice"], b.cursors()["Invoice"])

	b.conn = conn
	stop := run(t, b.reconciler())
	defer stop()
	want := b.clock.Now().Add(-2 * time.Minute)
	require.Eventually(t, func() bool { return b.cursors()["Invoice"].Equal(want) }, patient, time.Millisecond)
	require.Eventually(t, func() bool { return len(b.scans()) == 0 }, patient, time.Millisecond)
	b.requireEqual()
	b.requireHonest()
}

func TestCrash_AfterPublishing(t *testing.T) {
	t.Parallel()
	b, r := loaded(t, 30)
	before := b.cursors()
	b.clock.Advance(time.Hour)
	b.create("Invoice")
	b.clock.Advance(time.Hour)
	b.feed.stop()
	report := b.request(r, reconciler.Request{})
	require.Equal(t, 1, report.MissingCDC)
	require.Equal(t, 1, report.Unverified)
	require.Equal(t, before["Invoice"], b.cursors()["Invoice"])
	b.requireHonest()
	calls := b.sim.Stats().Calls

	stop := runVerifier(t, b) // another process, which only knows what Redis does
	defer stop()
	b.feed.start()
	want := b.clock.Now().Add(-2 * time.Minute)
	require.Eventually(t, func() bool { return b.cursors()["Invoice"].Equal(want) }, patient, time.Millisecond)
	require.Eventually(t, func() bool { return len(b.scans()) == 0 }, patient, time.Millisecond)
	require.Equal(t, calls, b.sim.Stats().Calls, "verifying costs no call")
	b.requireEqual()
}

func TestCrash_AfterTheCursorHasMoved(t *testing.T) {
	t.Parallel()
	b, r := loaded(t, 30)
	b.clock.Advance(time.Hour)
	b.create("Invoice")
	b.clock.Advance(time.Hour)
	b.feed.stop()
	b.request(r, reconciler.Request{})
	scan := b.scans()[0]
	require.NoError(t, b.store.AdvanceCursors(t.Context(), realm, scan.Cursors)) // and not DropScan
	b.feed.start()
	moved := b.cursors()
	stop := runVerifier(t, b)
	defer stop()
	require.Eventually(t, func() bool { return len(b.scans()) == 0 }, patient, time.Millisecond)
	require.Empty(t, cmp.Diff(moved, b.cursors()))
}

func TestCrash_ScanThatStandsStillIsForgotten(t *testing.T) {
	t.Parallel()
	b, r := loaded(t, 30)
	before := b.cursors()
	b.clock.Advance(time.Hour)
	b.create("Invoice")
	b.clock.Advance(time.Hour)
	b.feed.stop()
	b.request(r, reconciler.Request{})
	stop := runVerifier(t, b)
	defer stop()
	require.Never(t, func() bool { return len(b.scans()) == 0 }, brief, 10*time.Millisecond)
	b.clock.Advance(b.config.VerifyTimeout + time.Second)
	require.Eventually(t, func() bool { return len(b.scans()) == 0 }, patient, time.Millisecond)
	require.Equal(t, before["Invoice"], b.cursors()["Invoice"])

	b.feed.start()
	b.reconcile(r)
	b.requireEqual()
}

// What an unverified scan has published is not published again by the scans of
// the schedule, until that scan is forgotten.
func TestCrash_ChangesUnderwayAreNotRepeated(t *testing.T) {
	t.Parallel()
	b, _ := loaded(t, 10)
	b.config.Interval = 2 * time.Minute
	b.clock.Advance(time.Hour)
	from := b.clock.Now().Add(-time.Second)
	b.create("Invoice")
	b.clock.Advance(10 * time.Minute)
	b.feed.losing(func(e *ledgerfeedv1.Event) bool { return e.GetEntity() == "Invoice" })
	stop := run(t, b.reconciler())
	defer stop()
	b.feed.waitFor(t, "Invoice")
	for range 3 {
		b.nextInterval("Bill")
	}
	require.Len(t, b.feed.seenSince("Invoice", from), 1)
	for range 6 {
		b.nextInterval("Bill")
	}
	require.Eventually(t, func() bool { return len(b.feed.seenSince("Invoice", from)) == 2 }, patient, time.Millisecond)
	b.feed.losing(nil)
	b.clock.Advance(b.config.VerifyTimeout)
	require.Eventually(t, func() bool {
		b.clock.Advance(b.config.Interval)
		return b.equal()
	}, patient, 50*time.Millisecond)
}

// Two reconcilers at once: each scan of a realm is under its lease, and what
// both find is delivered once or twice, never lost.
func TestCrash_TwoReplicas(t *testing.T) {
	t.Parallel()
	b, _ := loaded(t, 30)
	b.config.Interval = time.Second
	stops := []func(){run(t, b.reconciler()), run(t, b.reconciler())}
	for range 30 {
		b.step()
		b.clock.Advance(time.Second)
		b.requireHonest()
	}
	b.clock.Advance(10 * time.Minute)
	require.Eventually(t, func() bool {
		b.clock.Advance(time.Second)
		return b.equal()
	}, patient, 10*time.Millisecond)
	for _, stop := range stops {
		stop()
	}
	b.requireHonest()
}

package reconciler_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

func (b *bundle) due() time.Time {
	b.t.Helper()
	due, err := b.store.Due(b.t.Context(), b.realm)
	require.NoError(b.t, err)
	return due
}

func TestSchedule_ABusyRealmIsScannedMoreOften(t *testing.T) {
	t.Parallel()
	b, r := loaded(t, 10)
	defer run(t, r)()
	b.rest()
	for range 900 {
		b.create("Invoice")
		b.clock.Advance(time.Minute)
	}
	at := b.cursors()["Invoice"]
	b.clock.Advance(b.config.Interval - 900*time.Minute)
	require.Eventually(t, func() bool { return b.cursors()["Invoice"].After(at) }, patient, time.Millisecond)
	// 900 in a day: every eight hours.
	within := func(least, most time.Duration) bool {
		left := b.due().Sub(b.clock.Now())
		return left >= least && left <= most
	}
	require.Eventually(t, func() bool { return within(6*time.Hour, 16*time.Hour) }, patient, time.Millisecond)

	// It falls asleep again.
	for range 12 {
		b.clock.Advance(b.due().Sub(b.clock.Now()) + time.Second)
		require.Eventually(t, func() bool { return b.due().After(b.clock.Now().Add(time.Hour)) }, patient, time.Millisecond)
	}
	require.True(t, within(b.config.Interval-time.Second, b.config.Interval), "%s", b.due().Sub(b.clock.Now()))
}

func TestSchedule_ADormantRealmIsLeftAlone(t *testing.T) {
	t.Parallel()
	b, r := loaded(t, 10)
	stop := run(t, r)
	b.rest()
	stop()
	// As if daily scans had seen nothing for a hundred days.
	now := b.clock.Now()
	quiet := state.Pace{Scanned: now, Full: now, Changed: now.Add(-100 * 24 * time.Hour)}
	require.NoError(t, b.store.SetPace(t.Context(), realm, quiet))
	calls := b.sim.Stats().Calls
	b.clock.Advance(b.config.Interval)
	stop = run(t, b.reconciler())
	defer func() { stop() }()
	for range 3 {
		b.rest()
		require.Equal(t, calls, b.sim.Stats().Calls)
		require.Equal(t, b.clock.Now().Add(b.config.Interval).Truncate(time.Second), b.due().Truncate(time.Second), "it is looked at daily, without a call")
		b.clock.Advance(b.config.Interval)
	}

	// A webhook wakes it: what came after that one may be lost.
	b.heard(realm, "Invoice", "create")
	lost := b.create("Invoice")
	b.clock.Advance(b.config.Interval)
	require.Eventually(t, func() bool { return b.has("Invoice", lost.ID) }, patient, time.Millisecond)
	require.Greater(t, b.sim.Stats().Calls, calls)
}

// What is dormant is scanned after ten days at the latest, where it has been quiet
// for a hundred.
func TestSchedule_ADormantRealmIsScannedInTime(t *testing.T) {
	t.Parallel()
	b, _ := loaded(t, 10)
	now := b.clock.Now()
	require.NoError(t, b.store.SetPace(t.Context(), realm, state.Pace{Scanned: now, Full: now, Changed: now.Add(-100 * 24 * time.Hour)}))
	lost := b.create("Invoice")
	b.clock.Advance(10*24*time.Hour + time.Minute)
	defer run(t, b.reconciler())()
	require.Eventually(t, func() bool { return b.has("Invoice", lost.ID) }, patient, time.Millisecond)
}

func TestSchedule_ARewoundRealmIsScannedWhole(t *testing.T) {
	t.Parallel()
	b, r := loaded(t, 10)
	stop := run(t, r)
	b.rest()
	stop()
	lost := b.create("TimeActivity")
	b.clock.Advance(20 * time.Minute)
	require.NoError(t, b.store.RewindCursors(t.Context(), realm, nil, b.clock.Now().Add(-time.Hour)))
	require.NoError(t, b.store.Schedule(t.Context(), realm, b.clock.Now()))
	defer run(t, b.reconciler())()
	require.Eventually(t, func() bool { return b.has("TimeActivity", lost.ID) }, patient, time.Millisecond)
}

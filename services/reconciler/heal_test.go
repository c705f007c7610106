package reconciler_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/reconciler"
)

// Redis may evict the list of realms or a part of the schedule, or somebody delete them:
// each is made again of what is left.
func TestHeal_TheListAndTheScheduleAreMadeAgain(t *testing.T) {
	t.Parallel()
	for name, lost := range map[string][]string{
		"nothing":         nil,
		"the list":        {"lf:1:realms"},
		"the schedule":    {"lf:1:due:*"},
		"both":            {"lf:1:realms", "lf:1:due:*"},
		"a name that was": {"lf:1:conn:*"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.connect()
			at := b.clock.Now().Add(3 * time.Hour)
			require.NoError(t, b.store.Schedule(t.Context(), b.realm, at))
			for _, pattern := range lost {
				keys, err := b.store.Redis().Keys(t.Context(), pattern).Result()
				require.NoError(t, err)
				require.NotEmpty(t, keys, pattern)
				require.NoError(t, b.store.Redis().Del(t.Context(), keys...).Err())
			}
			require.NoError(t, b.reconciler().Heal(t.Context()))
			listed, err := b.connections.List(t.Context())
			require.NoError(t, err)
			require.Equal(t, []string{b.realm}, listed)
			due, err := b.store.Due(t.Context(), b.realm)
			require.NoError(t, err)
			require.False(t, due.IsZero())
			wasScheduled := !strings.Contains(strings.Join(lost, " "), "due")
			require.Equal(t, wasScheduled, due.Equal(at.Truncate(time.Millisecond)), "what was on the schedule keeps its time")
		})
	}
}

// A company that both the list and the schedule have lost is found by its record: at once
// where either lacks another one too, else within the hour.
func TestHeal_ACompanyThatBothHaveLostIsFound(t *testing.T) {
	t.Parallel()
	for name, other := range map[string]bool{"it alone": false, "the list of others too": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.connect()
			r := b.reconciler()
			require.NoError(t, b.store.Schedule(t.Context(), b.realm, b.clock.Now().Add(time.Hour)))
			const lost = "9341000000000077"
			on := *b
			on.realm = lost
			on.connect()
			require.NoError(t, r.Heal(t.Context()))

			keys, err := b.store.Redis().Keys(t.Context(), "lf:1:due:*").Result()
			require.NoError(t, err)
			for _, key := range keys {
				require.NoError(t, b.store.Redis().ZRem(t.Context(), key, lost).Err())
			}
			require.NoError(t, b.store.Redis().SRem(t.Context(), "lf:1:realms", lost).Err())
			if other {
				require.NoError(t, b.store.Redis().Del(t.Context(), "lf:1:realms").Err())
			} else {
				require.NoError(t, r.Heal(t.Context()))
				due, err := b.store.Due(t.Context(), lost)
				require.NoError(t, err)
				require.True(t, due.IsZero(), "nothing seems to be missing")
				b.clock.Advance(time.Hour)
			}
			require.NoError(t, r.Heal(t.Context()))
			listed, err := b.connections.List(t.Context())
			require.NoError(t, err)
			require.Contains(t, listed, lost)
			due, err := b.store.Due(t.Context(), lost)
			require.NoError(t, err)
			require.False(t, due.IsZero())
		})
	}
}

// A record that is lost is reported once, and until the realm is connected again.
func TestHeal_ALostRecordIsReported(t *testing.T) {
	t.Parallel()
	for name, lost := range map[string][]string{"only it": {"lf:1:conn:*"}, "all but the cursors": {"lf:1:conn:*", "lf:1:due:*", "lf:1:realms"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.connect()
			b.create("Invoice")
			b.clock.Advance(time.Hour)
			b.reconcile(b.reconciler())
			r := b.reconciler()
			b.forget(lost...)
			outage := state.Outage{Kind: state.OutageIngress, From: b.clock.Now().Add(-time.Hour), To: b.clock.Now()}
			require.NoError(t, b.store.AddOutage(t.Context(), outage))
			for range 3 {
				require.NoError(t, r.Heal(t.Context()))
				require.NoError(t, r.DueAfterOutage(t.Context()))
			}
			require.Equal(t, []string{b.realm}, b.lost())
			w, err := b.store.Watch(t.Context())
			require.NoError(t, err)
			require.True(t, w.Pending(), "an outage after which nothing can be scanned is not repaired")
			require.Equal(t, []string{b.realm}, b.request(r, reconciler.Request{Realms: []string{b.realm}}).Parked)

			b.connect()
			require.Empty(t, b.lost())
			require.NoError(t, r.DueAfterOutage(t.Context()))
			w, err = b.store.Watch(t.Context())
			require.NoError(t, err)
			require.False(t, w.Pending())
			due, err := b.store.Due(t.Context(), b.realm)
			require.NoError(t, err)
			require.False(t, due.IsZero())
			b.create("Invoice")
			b.clock.Advance(time.Hour)
			require.Equal(t, 1, b.reconcile(r).MissingCDC, "it goes on from its cursors")
		})
	}
}

// forget deletes keys, as an eviction does.
func (b *bundle) forget(patterns ...string) {
	b.t.Helper()
	for _, pattern := range patterns {
		keys, err := b.store.Redis().Keys(b.t.Context(), pattern).Result()
		require.NoError(b.t, err)
		if len(keys) > 0 {
			require.NoError(b.t, b.store.Redis().Del(b.t.Context(), keys...).Err())
		}
	}
}

func (b *bundle) lost() []string {
	b.t.Helper()
	realms, err := b.connections.Lost(b.t.Context())
	require.NoError(b.t, err)
	return realms
}

// Before any realm is connected an outage costs nothing.
func TestHeal_AnOutageWithoutRealmsIsOver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.forget("lf:1:conn:*", "lf:1:due:*", "lf:1:realms")
	require.NoError(t, b.store.AddOutage(t.Context(), state.Outage{Kind: state.OutageIngress, From: b.clock.Now().Add(-time.Hour), To: b.clock.Now()}))
	require.NoError(t, b.reconciler().DueAfterOutage(t.Context()))
	w, err := b.store.Watch(t.Context())
	require.NoError(t, err)
	require.False(t, w.Pending())
}

// An outage that is found after the list was lost is repaired: no repair of nothing.
func TestHeal_AnOutageWithoutTheListIsRepaired(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.connect()
	ref := b.create("Invoice")
	require.NoError(t, b.store.Schedule(t.Context(), b.realm, b.clock.Now().Add(24*time.Hour)))
	require.NoError(t, b.store.Redis().Del(t.Context(), "lf:1:realms").Err())
	require.NoError(t, b.store.AddOutage(t.Context(), state.Outage{Kind: state.OutageIngress, From: b.clock.Now().Add(-time.Hour), To: b.clock.Now()}))
	r := b.reconciler()
	require.NoError(t, r.DueAfterOutage(t.Context()))
	due, err := b.store.Due(t.Context(), b.realm)
	require.NoError(t, err)
	require.False(t, due.After(b.clock.Now().Add(time.Hour)), "%v", ref)
}

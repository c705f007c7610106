package reconciler_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
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

package state_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

func calls(b *state.Budget, p qbo.Priority, n int) {
	for range n {
		b.Observe(qbo.Call{Priority: p})
	}
}

func TestBudget_BackfillsLeaveTheLastTenthToLiveCalls(t *testing.T) {
	s, clock := budgetStore(t)
	b := s.Budget(100)
	calls(b, qbo.Backfill, 60)
	calls(b, qbo.Live, 29)
	require.NoError(t, b.Allow(t.Context(), qbo.Backfill))
	calls(b, qbo.Live, 1)
	require.ErrorIs(t, b.Allow(t.Context(), qbo.Backfill), state.ErrBudget)
	require.NoError(t, b.Allow(t.Context(), qbo.Live))
	calls(b, qbo.Live, 10)
	require.ErrorIs(t, b.Allow(t.Context(), qbo.Live), state.ErrBudget)
	clock.advance(31 * 24 * time.Hour)
	require.NoError(t, b.Allow(t.Context(), qbo.Backfill), "a new month")
}

func TestBudget_CountsTheCallsOfAllReplicasThatSucceeded(t *testing.T) {
	s, clock := budgetStore(t)
	one, two := s.Budget(0), s.Budget(50)
	calls(one, qbo.Live, 40)
	calls(two, qbo.Live, 9)
	one.Observe(qbo.Call{Err: errors.New("refused")})
	clock.advance(5 * time.Second)
	require.NoError(t, one.Allow(t.Context(), qbo.Live), "without a bound it counts")
	u, err := two.Usage(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 49, u.Live)
	require.NoError(t, two.Allow(t.Context(), qbo.Live))
	calls(one, qbo.Live, 1)
	clock.advance(5 * time.Second)
	require.NoError(t, one.Allow(t.Context(), qbo.Live))
	require.ErrorIs(t, two.Allow(t.Context(), qbo.Live), state.ErrBudget)
}

func TestBudget_ForecastsByTheLastWholeDays(t *testing.T) {
	s, clock := budgetStore(t)
	b := s.Budget(1000)
	usage := func() state.Usage {
		clock.advance(3 * time.Second)
		u, err := b.Usage(t.Context())
		require.NoError(t, err)
		return u
	}
	// The 26th, at noon: half a day, four and a half to come.
	calls(b, qbo.Live, 10)
	require.InDelta(t, 10+20*4.5, usage().Forecast, 1)
	clock.advance(24 * time.Hour)
	calls(b, qbo.Live, 5)
	u := usage()
	require.EqualValues(t, 15, u.Total())
	require.InDelta(t, 15+10*3.5, u.Forecast, 1, "as the whole day before")
	clock.advance(4 * 24 * time.Hour)
	u = usage()
	require.Equal(t, time.December, u.Month.Month())
	require.Zero(t, u.Total())
	// 26th: 10, 27th: 5, 28th to 30th: none; December 1st, noon: 30.5 days to come.
	require.InDelta(t, 3*30.5, u.Forecast, 1, "last month's days count too")
}

func TestBudget_WithoutRedisSaysSo(t *testing.T) {
	s, clock := budgetStore(t)
	b := s.Budget(10)
	calls(b, qbo.Live, 3)
	require.NoError(t, s.Close())
	clock.advance(5 * time.Second)
	err := b.Allow(t.Context(), qbo.Live)
	require.Error(t, err)
	require.NotErrorIs(t, err, state.ErrBudget)
}

// manual is a clock that a test moves.
type manual struct{ now time.Time }

func (m *manual) advance(d time.Duration) { m.now = m.now.Add(d) }

func budgetStore(t *testing.T) (*state.Store, *manual) {
	t.Helper()
	clock := &manual{now: time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)}
	s, err := state.Open(t.Context(), state.Options{Config: at(embedded(t)), Now: func() time.Time { return clock.now }})
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s, clock
}

package state_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

func TestProgresses_AreThoseOfEachRealm(t *testing.T) {
	s, clock := budgetStore(t)
	ctx, now := t.Context(), clock.now
	require.NoError(t, s.AdvanceCursors(ctx, "1", map[string]time.Time{"Invoice": now, "Bill": now.Add(-time.Hour)}))
	require.NoError(t, s.SaveScan(ctx, "1", state.Scan{ID: "a"}))
	require.NoError(t, s.SaveScan(ctx, "1", state.Scan{ID: "b"}))
	require.NoError(t, s.Schedule(ctx, "2", now))
	require.NoError(t, s.Schedule(ctx, "3", now.Add(-time.Minute)))
	realms, err := s.ClaimDue(ctx, []int{state.Shard("3")}, time.Second, time.Minute, 10)
	require.NoError(t, err)
	require.Equal(t, []string{"3"}, realms)

	pace := state.Pace{Scanned: now, Full: now.Add(-time.Hour), PerDay: 7}
	require.NoError(t, s.SetPace(ctx, "1", pace))
	require.NoError(t, s.SetLoaded(ctx, "1", "Vendor", now))
	for _, r := range []state.Refusal{
		{Entity: "Class", Way: state.RefusedByQuery, Lasting: true}, {Entity: "Budget", Way: state.RefusedByQuery, Lasting: true},
		{Entity: "Bill", Way: state.RefusedByCDC, Lasting: true}, {Entity: "Term", Way: state.RefusedByQuery},
	} {
		r.At = now
		require.NoError(t, s.Refused(ctx, "1", r))
	}

	got, err := s.Progresses(ctx, []string{"3", "1", "none", "2"})
	require.NoError(t, err)
	none := map[string]time.Time{}
	require.Empty(t, cmp.Diff([]state.Progress{
		{Cursors: none, Due: now.Add(time.Minute), Claimed: true},
		{Cursors: map[string]time.Time{"Invoice": now, "Bill": now.Add(-time.Hour)}, Scans: 2, Loading: 1, Pace: pace, Refused: []string{"Budget", "Class"}},
		{Cursors: none},
		{Cursors: none, Due: now},
	}, got))
	got, err = s.Progresses(ctx, nil)
	require.NoError(t, err)
	require.Empty(t, got)
	require.NoError(t, s.Close())
	_, err = s.Progresses(ctx, []string{"1"})
	require.Error(t, err)
}

func TestBudget_TellsTheDaysAndTheBusiestRealms(t *testing.T) {
	s, clock := budgetStore(t)
	b := s.Budget(0)
	call := func(realm string, n int) {
		for range n {
			b.Observe(qbo.Call{Realm: realm, Priority: qbo.Backfill})
		}
	}
	call("1", 3)
	call("2", 5)
	clock.advance(3 * time.Second)
	_, err := b.Usage(t.Context())
	require.NoError(t, err)
	yesterday := clock.now
	clock.advance(24 * time.Hour)
	call("1", 2)
	calls(b, qbo.Live, 1)
	clock.advance(3 * time.Second)
	u, err := b.Usage(t.Context())
	require.NoError(t, err)
	require.InDelta(t, 8, u.PerDay, 0)

	busiest, err := s.Busiest(t.Context(), yesterday, 10)
	require.NoError(t, err)
	require.Equal(t, []state.RealmCalls{{RealmID: "2", Calls: 5}, {RealmID: "1", Calls: 3}}, busiest)
	busiest, err = s.Busiest(t.Context(), clock.now, 1)
	require.NoError(t, err)
	require.Equal(t, []state.RealmCalls{{RealmID: "1", Calls: 2}}, busiest)
	days, err := s.Calls(t.Context(), clock.now)
	require.NoError(t, err)
	require.Len(t, days, 27)
	require.Equal(t, state.DayCalls{Day: time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC), Backfill: 8}, days[25])
	require.Equal(t, state.DayCalls{Day: time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC), Live: 1, Backfill: 2}, days[26])
	days, err = s.Calls(t.Context(), clock.now.AddDate(0, -1, 0))
	require.NoError(t, err)
	require.Len(t, days, 31)
}

// However many realms there are, a day is bounded, and those with many calls stay.
func TestBudget_TheRealmsOfADayAreBounded(t *testing.T) {
	s, clock := budgetStore(t)
	b := s.Budget(0)
	for round := range 3 {
		for n := range 2 * state.MaxCalled {
			b.Observe(qbo.Call{Realm: string(rune('a'+round)) + time.Duration(n).String()})
		}
		for range 10 {
			b.Observe(qbo.Call{Realm: "busy"})
		}
		clock.advance(3 * time.Second)
		_, err := b.Usage(t.Context())
		require.NoError(t, err)
	}
	all, err := s.Busiest(t.Context(), clock.now, 10*state.MaxCalled)
	require.NoError(t, err)
	require.Len(t, all, state.MaxCalled)
	require.Equal(t, state.RealmCalls{RealmID: "busy", Calls: 30}, all[0])
}

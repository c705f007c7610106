package state_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

func allShards() []int {
	shards := make([]int, state.Shards)
	for i := range shards {
		shards[i] = i
	}
	return shards
}

// dueBench is the schedule with a clock of its own.
type dueBench struct {
	t *testing.T
	s *state.Store
}

func (b dueBench) schedule(realm string, at time.Time) {
	b.t.Helper()
	require.NoError(b.t, b.s.Schedule(b.t.Context(), realm, at))
}

// at sets the clock.
func (b dueBench) at(now time.Time) { state.SetNow(b.s, func() time.Time { return now }) }

func (b dueBench) claim(now time.Time, n int) []string {
	b.t.Helper()
	b.at(now)
	realms, err := b.s.ClaimDue(b.t.Context(), allShards(), 0, time.Minute, n)
	require.NoError(b.t, err)
	slices.Sort(realms)
	return realms
}

func (b dueBench) done(realm string, next time.Time) {
	b.t.Helper()
	in := state.Never
	if !next.IsZero() {
		b.at(noon)
		in = next.Sub(noon)
	}
	require.NoError(b.t, b.s.Done(b.t.Context(), realm, in))
}

func (b dueBench) due(realm string) time.Time {
	b.t.Helper()
	at, err := b.s.Due(b.t.Context(), realm)
	require.NoError(b.t, err)
	return at
}

func TestDue_EarlierWinsAndAClaimHides(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		b := dueBench{t, s}
		b.schedule("9", noon)
		b.schedule("9", noon.Add(time.Hour))
		require.Equal(t, noon, b.due("9"))
		b.schedule("9", noon.Add(-time.Hour))
		require.Equal(t, noon.Add(-time.Hour), b.due("9"))

		require.Empty(t, b.claim(noon.Add(-2*time.Hour), 10))
		require.Equal(t, []string{"9"}, b.claim(noon, 10))
		require.Empty(t, b.claim(noon.Add(59*time.Second), 10))
		require.Equal(t, []string{"9"}, b.claim(noon.Add(time.Minute), 10), "its holder died")

		b.done("9", noon.Add(24*time.Hour))
		require.Equal(t, noon.Add(24*time.Hour), b.due("9"))
		require.Empty(t, b.claim(noon.Add(time.Hour), 10))
	})
}

// What is asked for during a scan is not lost with the scan's end.
func TestDue_RequestDuringAClaimIsKept(t *testing.T) {
	day := noon.Add(24 * time.Hour)
	for _, tc := range []struct {
		name string
		at   time.Time
		next time.Time
		want time.Time
	}{
		{"at once", noon, day, noon},
		{"after the claim, before the next", noon.Add(time.Hour), day, noon.Add(time.Hour)},
		{"after the next", day.Add(time.Hour), day, day},
		{"off the schedule otherwise", noon, time.Time{}, noon},
	} {
		t.Run(tc.name, func(t *testing.T) {
			everywhere(t, func(t *testing.T, s *state.Store) {
				b := dueBench{t, s}
				b.schedule("9", noon)
				require.Equal(t, []string{"9"}, b.claim(noon, 10))
				b.schedule("9", tc.at)
				require.Empty(t, b.claim(noon.Add(time.Second), 10), "one scan at a time")
				b.done("9", tc.next)
				require.Equal(t, tc.want, b.due("9"))
			})
		})
	}
}

func TestDue_ClaimAfterACrashAnswersWhatWasAskedMeanwhile(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		b := dueBench{t, s}
		b.schedule("9", noon)
		b.claim(noon, 10)
		b.schedule("9", noon)
		require.Equal(t, []string{"9"}, b.claim(noon.Add(time.Minute), 10))
		b.done("9", noon.Add(time.Hour))
		require.Equal(t, noon.Add(time.Hour), b.due("9"))
	})
}

func TestDue_LateDoneKeepsWhatWasAskedSince(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		b := dueBench{t, s}
		b.schedule("9", noon)
		b.claim(noon, 10)
		b.claim(noon.Add(time.Minute), 10) // another replica takes over
		b.done("9", noon.Add(time.Hour))
		b.schedule("9", noon.Add(2*time.Minute))
		b.done("9", noon.Add(24*time.Hour)) // the first one, late
		require.Equal(t, noon.Add(2*time.Minute), b.due("9"))
	})
}

func TestDue_ExtendProlongsOnlyAClaim(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		b := dueBench{t, s}
		b.schedule("9", noon)
		b.at(noon)
		require.NoError(t, s.Extend(t.Context(), "9", time.Hour))
		require.Equal(t, []string{"9"}, b.claim(noon, 10))
		require.NoError(t, s.Extend(t.Context(), "9", time.Hour))
		require.NoError(t, s.Extend(t.Context(), "9", 0), "never shorter")
		require.Empty(t, b.claim(noon.Add(30*time.Minute), 10))
		require.Equal(t, []string{"9"}, b.claim(noon.Add(time.Hour), 10))
	})
}

func TestDue_DoneWithoutNextEndsIt(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		b := dueBench{t, s}
		b.schedule("9", noon)
		b.claim(noon, 10)
		b.done("9", time.Time{})
		require.True(t, b.due("9").IsZero())
		require.Empty(t, b.claim(noon.Add(time.Hour), 10))
		require.Empty(t, keys(t, s))
	})
}

func TestDue_ClaimsAreSharedOut(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		b := dueBench{t, s}
		var want []string
		for i := range 200 {
			realm := fmt.Sprintf("93414%04d", i)
			want = append(want, realm)
			b.schedule(realm, noon)
		}
		b.at(noon)
		var mu sync.Mutex // guards got
		var got []string
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					realms, err := s.ClaimDue(t.Context(), allShards(), 0, time.Minute, 7)
					if err != nil {
						t.Error(err)
					}
					if len(realms) > 7 {
						t.Errorf("claimed %d, want at most 7", len(realms))
					}
					mu.Lock()
					got = append(got, realms...)
					mu.Unlock()
					if len(realms) == 0 {
						return
					}
				}
			})
		}
		wg.Wait()
		slices.Sort(got)
		require.Empty(t, cmp.Diff(want, got), "each once")
	})
}

func TestDue_OnlyTheAskedShards(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		b := dueBench{t, s}
		b.schedule("9", noon)
		mine := state.Shard("9")
		next, err := s.NextDue(t.Context(), []int{mine})
		require.NoError(t, err)
		require.Equal(t, noon, next)

		others := slices.DeleteFunc(allShards(), func(n int) bool { return n == mine })
		b.at(noon)
		realms, err := s.ClaimDue(t.Context(), others, 0, time.Minute, 10)
		require.NoError(t, err)
		require.Empty(t, realms)
		for _, none := range [][]int{others, nil} {
			next, err = s.NextDue(t.Context(), none)
			require.NoError(t, err)
			require.True(t, next.IsZero())
		}
	})
}

// The clock of no replica counts: a test sets none here.
func TestDue_IsByTheClockOfRedis(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		b, ctx := dueBench{t, s}, t.Context()
		claim := func() []string {
			realms, err := s.ClaimDue(ctx, allShards(), 0, time.Hour, 10)
			require.NoError(t, err)
			return realms
		}
		now, err := s.Now(ctx)
		require.NoError(t, err)
		require.NoError(t, s.ScheduleIn(ctx, "9", time.Hour))
		require.WithinDuration(t, now.Add(time.Hour), b.due("9"), time.Minute)
		require.Empty(t, claim())
		require.NoError(t, s.ScheduleIn(ctx, "9", 0))
		require.Equal(t, []string{"9"}, claim())
		require.WithinDuration(t, now.Add(time.Hour), b.due("9"), time.Minute)
		require.NoError(t, s.Extend(ctx, "9", 2*time.Hour))
		require.WithinDuration(t, now.Add(2*time.Hour), b.due("9"), time.Minute)
		require.NoError(t, s.Done(ctx, "9", 3*time.Hour))
		require.WithinDuration(t, now.Add(3*time.Hour), b.due("9"), time.Minute)
	})
}

// A replica of an older version, whose clock was a year ahead, has claimed one realm and
// scheduled two others.
func TestDue_WhatIsTooFarAheadIsDueNow(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		b := dueBench{t, s}
		year := noon.Add(365 * 24 * time.Hour)
		b.schedule("claimed", year)
		require.Equal(t, []string{"claimed"}, b.claim(year, 10))
		b.schedule("claimed", year.Add(time.Hour)) // to be scanned again after that
		b.schedule("ahead", year)
		b.schedule("tomorrow", noon.Add(24*time.Hour))
		b.at(noon)
		n, err := s.BoundDue(t.Context(), allShards(), 25*time.Hour)
		require.NoError(t, err)
		require.Equal(t, 2, n)
		require.Equal(t, []string{"ahead", "claimed"}, b.claim(noon, 10))
		require.Equal(t, noon.Add(24*time.Hour), b.due("tomorrow"))
		b.done("claimed", noon.Add(24*time.Hour))
		require.Equal(t, noon.Add(24*time.Hour), b.due("claimed"), "the request was answered by the claim")
		n, err = s.BoundDue(t.Context(), allShards(), 25*time.Hour)
		require.NoError(t, err)
		require.Zero(t, n)
	})
}

package state_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

func TestJob_OneARealmUntilItIsOver(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		ctx := t.Context()
		_, err := s.Job(ctx, "9")
		require.ErrorIs(t, err, state.ErrNoJob)
		_, err = s.Cancel(ctx, "9")
		require.ErrorIs(t, err, state.ErrNoJob)

		asked, fresh, err := s.Ask(ctx, state.Job{Realm: "9", Entities: []string{"Invoice", "Bill", "Invoice"}, By: "somebody"})
		require.NoError(t, err)
		require.True(t, fresh)
		require.Equal(t, []string{"Bill", "Invoice"}, asked.Entities)
		again, fresh, err := s.Ask(ctx, state.Job{Realm: "9", Load: true})
		require.NoError(t, err)
		require.False(t, fresh)
		require.Empty(t, cmp.Diff(asked, again))

		now := asked.Requested
		later := func(d time.Duration) { state.SetNow(s, func() time.Time { return now.Add(d) }) }
		later(0)
		jobs, err := s.ClaimJobs(ctx, time.Minute, 10)
		require.NoError(t, err)
		require.Len(t, jobs, 1)
		later(30 * time.Second)
		none, err := s.ClaimJobs(ctx, time.Minute, 10)
		require.NoError(t, err)
		require.Empty(t, none)
		j := jobs[0]
		j.State, j.Started, j.Progress.Records = state.JobRunning, asked.Requested, 7
		cancelled, err := s.Report(ctx, j, 5*time.Minute)
		require.NoError(t, err)
		require.False(t, cancelled)
		later(2 * time.Minute)
		none, err = s.ClaimJobs(ctx, time.Minute, 10)
		require.NoError(t, err)
		require.Empty(t, none, "the report has prolonged the claim")
		later(6 * time.Minute)
		taken, err := s.ClaimJobs(ctx, time.Minute, 10)
		require.NoError(t, err)
		require.Len(t, taken, 1, "its holder died")
		require.Equal(t, 7, taken[0].Progress.Records)

		_, err = s.Cancel(ctx, "9")
		require.NoError(t, err)
		cancelled, err = s.Report(ctx, j, time.Hour)
		require.NoError(t, err)
		require.True(t, cancelled)
		j.State = state.JobCancelled
		_, err = s.Report(ctx, j, 0)
		require.NoError(t, err)
		open, err := s.Jobs(ctx)
		require.NoError(t, err)
		require.Empty(t, open)
		last, err := s.Job(ctx, "9")
		require.NoError(t, err)
		require.Equal(t, state.JobCancelled, last.State)

		_, fresh, err = s.Ask(ctx, state.Job{Realm: "9"})
		require.NoError(t, err)
		require.True(t, fresh)
		cancelled, err = s.Report(ctx, last, 0)
		require.NoError(t, err)
		require.False(t, cancelled, "that was about the one before")
	})
}

func TestJob_CancelledBeforeItIsTaken(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		for _, realm := range []string{"1", "2"} {
			_, _, err := s.Ask(t.Context(), state.Job{Realm: realm})
			require.NoError(t, err)
		}
		was, err := s.Cancel(t.Context(), "1")
		require.NoError(t, err)
		require.Equal(t, state.JobQueued, was.State)
		jobs, err := s.ClaimJobs(t.Context(), time.Minute, 10)
		require.NoError(t, err)
		require.Len(t, jobs, 1)
		require.Equal(t, "2", jobs[0].Realm)
	})
}

func TestJob_RateAndWhatIsLeft(t *testing.T) {
	t.Parallel()
	j := state.Job{State: state.JobRunning, Started: noon, Progress: state.JobProgress{Records: 500, Expected: 2000}}
	require.InDelta(t, 50, j.Rate(noon.Add(10*time.Second)), 0.01)
	require.Equal(t, 30*time.Second, j.Left(noon.Add(10*time.Second)))
	j.State, j.Ended = state.JobDone, noon.Add(20*time.Second)
	require.InDelta(t, 25, j.Rate(noon.Add(time.Hour)), 0.01)
	require.Zero(t, j.Left(noon.Add(time.Hour)))
	require.Zero(t, state.Job{}.Rate(noon))
}

// A replica of an older version, whose clock was a year ahead, has claimed it.
func TestJob_AClaimThatEndsTooFarAheadHoldsNobodyOff(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		now := noon
		state.SetNow(s, func() time.Time { return now })
		_, _, err := s.Ask(t.Context(), state.Job{Realm: "1"})
		require.NoError(t, err)
		claim := func() []state.Job {
			jobs, err := s.ClaimJobs(t.Context(), time.Minute, 10)
			require.NoError(t, err)
			return jobs
		}
		now = noon.AddDate(1, 0, 0)
		require.Len(t, claim(), 1)
		now = noon.Add(time.Second)
		require.Len(t, claim(), 1)
		require.Empty(t, claim())
	})
}

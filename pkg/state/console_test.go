package state_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

func TestActions_NewestFirstAndBounded(t *testing.T) {
	t.Parallel()
	s := open(t, at(devtest.Redis(t)))
	for i := range 30 {
		require.NoError(t, s.LogAction(t.Context(), state.Action{
			ID: fmt.Sprint(i), At: noon.Add(time.Duration(i) * time.Second), Who: "ann", Role: "operator", What: "pause", On: "crm", Outcome: "done",
		}))
	}
	got, err := s.Actions(t.Context(), 10, 5)
	require.NoError(t, err)
	require.Len(t, got, 5)
	require.Equal(t, "19", got[0].ID)
	require.Equal(t, "15", got[4].ID)
}

func TestPauseSink(t *testing.T) {
	t.Parallel()
	s := open(t, at(devtest.Redis(t)))
	require.NoError(t, s.PauseSink(t.Context(), "crm"))
	require.NoError(t, s.PauseSink(t.Context(), "crm"))
	got, err := s.PausedSinks(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"crm"}, got)
	require.NoError(t, s.ResumeSink(t.Context(), "crm"))
	require.NoError(t, s.ResumeSink(t.Context(), "crm"))
	got, err = s.PausedSinks(t.Context())
	require.NoError(t, err)
	require.Empty(t, got)
}

func TestStore_CountsSanitizedDocuments(t *testing.T) {
	t.Parallel()
	s := open(t, at(devtest.Redis(t)))
	for _, want := range []int64{0, 2, 4} {
		got, err := s.Sanitized(t.Context(), "crm")
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.NoError(t, s.AddSanitized(t.Context(), "crm", 2))
	}
	got, err := s.Sanitized(t.Context(), "other")
	require.NoError(t, err)
	require.Zero(t, got)
}

func TestSeries_IsARing(t *testing.T) {
	t.Parallel()
	s := open(t, at(devtest.Redis(t)))
	ring := state.Series{Name: "test", Step: time.Minute, Size: 5}
	for i := range 12 {
		x := state.Sample{At: noon.Add(time.Duration(i) * time.Minute), Values: map[string]float64{"i": float64(i)}}
		require.NoError(t, s.AddSample(t.Context(), ring, x))
		require.NoError(t, s.AddSample(t.Context(), ring, x)) // another console
	}
	got, err := s.Samples(t.Context(), ring, noon.Add(11*time.Minute))
	require.NoError(t, err)
	require.Len(t, got, 5)
	require.Equal(t, 7.0, got[0].Values["i"])
	require.Equal(t, 11.0, got[4].Values["i"])
	got, err = s.Samples(t.Context(), ring, noon.Add(13*time.Minute))
	require.NoError(t, err)
	require.Len(t, got, 3, "what is older than the ring is not shown")
}

package state_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

func TestPace_IsForgottenWithARewind(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		pace := func() state.Pace {
			p, err := s.Pace(t.Context(), "9")
			require.NoError(t, err)
			return p
		}
		require.Zero(t, pace())
		want := state.Pace{Scanned: minute(3), Changed: minute(1), PerDay: 12345}
		require.NoError(t, s.SetPace(t.Context(), "9", want))
		require.Equal(t, want, pace())
		require.NoError(t, s.SetLoaded(t.Context(), "9", "Invoice", minute(1)))
		require.NoError(t, s.SetLoaded(t.Context(), "9", "Bill", minute(2)))
		require.NoError(t, s.SetLoaded(t.Context(), "9", "Bill", time.Time{}))
		loaded, err := s.Loaded(t.Context(), "9")
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(map[string]time.Time{"Invoice": minute(1)}, loaded))

		require.NoError(t, s.RewindCursors(t.Context(), "9", []string{"Invoice"}, minute(0)))
		require.Zero(t, pace())
		loaded, err = s.Loaded(t.Context(), "9")
		require.NoError(t, err)
		require.Empty(t, loaded)
	})
}

func TestRefusals_AreBounded(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		for i := range state.MaxRefusals + 5 {
			require.NoError(t, s.Refused(t.Context(), "9", state.Refusal{Entity: fmt.Sprintf("E%03d", i), Way: "cdc", At: minute(1)}))
		}
		require.NoError(t, s.Refused(t.Context(), "9", state.Refusal{Entity: "E000", Way: "cdc", At: minute(2)}))
		require.NoError(t, s.Accepted(t.Context(), "9", state.Refusal{Entity: "E001", Way: "cdc"}))
		all, err := s.Refusals(t.Context(), "9")
		require.NoError(t, err)
		require.Len(t, all, state.MaxRefusals-1)
		require.Equal(t, state.Refusal{Entity: "E000", Way: "cdc", At: minute(2)}, all[0])
		require.Equal(t, "E002", all[1].Entity)
	})
}

// Refusals that last are kept where earlier versions look for them; others are not.
func TestRefusals_OfBothVersions(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		ctx := t.Context()
		old := state.Key("refused", "9")
		all := func() []state.Refusal {
			t.Helper()
			all, err := s.Refusals(ctx, "9")
			require.NoError(t, err)
			return all
		}
		doubtful := state.Refusal{Entity: "Budget", Way: "query", At: minute(3), First: minute(1), Tries: 2, Text: "404", Next: minute(8)}
		require.NoError(t, s.Refused(ctx, "9", doubtful))
		require.Equal(t, []state.Refusal{doubtful}, all())
		require.Zero(t, s.Redis().HLen(ctx, old).Val())

		lasting := state.Refusal{Entity: "Budget", Way: "query", At: minute(5), First: minute(1), Tries: 3, Text: "404", Lasting: true}
		require.NoError(t, s.Refused(ctx, "9", lasting))
		require.Equal(t, []state.Refusal{lasting}, all())
		require.Equal(t, fmt.Sprint(minute(5).UnixMilli()), s.Redis().HGet(ctx, old, "Budget:query").Val())

		// An earlier version keeps one without a text, and removes one of ours.
		require.NoError(t, s.Redis().HSet(ctx, old, "Class:cdc", minute(2).UnixMilli()).Err())
		require.NoError(t, s.Redis().HDel(ctx, old, "Budget:query").Err())
		require.Equal(t, []state.Refusal{{Entity: "Class", Way: "cdc", At: minute(2), First: minute(2), Lasting: true}}, all())
		require.NoError(t, s.Accepted(ctx, "9", state.Refusal{Entity: "Class", Way: "cdc"}))
		require.Empty(t, all())
	})
}

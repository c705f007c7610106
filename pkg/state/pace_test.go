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

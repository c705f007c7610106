package state_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

func TestSession_LivesWhileItIsRead(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		ctx := t.Context()
		life := func() time.Duration { return s.Redis().PTTL(ctx, state.TempKey("session", "name")).Val() }
		value, generation, err := s.Session(ctx, "name", time.Hour)
		require.NoError(t, err)
		require.Empty(t, value+generation, "none there, and none was made")
		require.NoError(t, s.SaveSession(ctx, "name", "value", time.Minute))
		value, _, err = s.Session(ctx, "name", 0)
		require.NoError(t, err)
		require.Equal(t, "value", value)
		require.LessOrEqual(t, life(), time.Minute)
		_, _, err = s.Session(ctx, "name", time.Hour)
		require.NoError(t, err)
		require.Greater(t, life(), time.Minute)
		require.NoError(t, s.EndSession(ctx, "name"))
		require.NoError(t, s.EndSession(ctx, "name"))
		value, _, err = s.Session(ctx, "name", time.Hour)
		require.NoError(t, err)
		require.Empty(t, value, "reading brings none back")
	})
}

func TestSession_AllEndByAnotherGeneration(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		ctx := t.Context()
		require.NoError(t, s.SaveSession(ctx, "name", "value", time.Minute))
		seen := map[string]bool{}
		for range 3 {
			_, generation, err := s.Session(ctx, "name", 0)
			require.NoError(t, err)
			same, err := s.SessionGeneration(ctx)
			require.NoError(t, err)
			require.Equal(t, same, generation)
			require.False(t, seen[generation])
			seen[generation] = true
			require.NoError(t, s.EndSessions(ctx))
		}
	})
}

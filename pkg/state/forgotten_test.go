package state_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

func requireForgotten(t *testing.T, want bool, s *state.Store) state.Memory {
	t.Helper()
	m, err := s.Memory(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, m.Forgotten())
	return m
}

func TestMemory_AfterTheLossOfEverything(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		m := requireForgotten(t, true, s)
		require.NoError(t, s.Remembered(t.Context(), m))
		noted := requireForgotten(t, false, s)
		require.Equal(t, noted, requireForgotten(t, false, s))
		require.NoError(t, s.Redis().FlushDB(t.Context()).Err())
		require.NoError(t, s.Remembered(t.Context(), requireForgotten(t, true, s)))
		require.NotEqual(t, noted, requireForgotten(t, false, s), "who did not look in between must see it too")
	})
}

// Lost again while it was given back, it is not all there.
func TestMemory_AfterALossInBetween(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		m, err := s.Remembering(t.Context(), requireForgotten(t, true, s))
		require.NoError(t, err)
		requireForgotten(t, true, s)
		require.NoError(t, s.Redis().FlushDB(t.Context()).Err())
		require.ErrorIs(t, s.Remembered(t.Context(), m), state.ErrLostAgain)
		m, err = s.Remembering(t.Context(), requireForgotten(t, true, s))
		require.NoError(t, err)
		require.NoError(t, s.Remembered(t.Context(), m))
		requireForgotten(t, false, s)
	})
}

// A server that went back to an older file is another process, as is one that lost nothing.
func TestMemory_AfterARestart(t *testing.T) {
	t.Parallel()
	server := devtest.StartRealRedis(t)
	s := open(t, at(server.URL()))
	m := requireForgotten(t, true, s)
	require.NoError(t, s.Remembered(t.Context(), m))
	noted := requireForgotten(t, false, s)
	server.Kill()
	server.Start()
	require.NotEqual(t, noted, requireForgotten(t, true, s))
}

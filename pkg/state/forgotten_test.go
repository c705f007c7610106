package state_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

func requireForgotten(t *testing.T, want bool, s *state.Store) (life string) {
	t.Helper()
	life, forgotten, err := s.Forgotten(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, forgotten)
	return life
}

func TestForgotten_AfterTheLossOfEverything(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		life := requireForgotten(t, true, s)
		require.NoError(t, s.Remembered(t.Context(), life))
		requireForgotten(t, false, s)
		require.NoError(t, s.Redis().FlushDB(t.Context()).Err())
		requireForgotten(t, true, s)
	})
}

// A server that went back to an older file is another process, as is one that lost nothing.
func TestForgotten_AfterARestart(t *testing.T) {
	t.Parallel()
	server := devtest.StartRealRedis(t)
	s := open(t, at(server.URL()))
	life := requireForgotten(t, true, s)
	require.NotEmpty(t, life)
	require.NoError(t, s.Remembered(t.Context(), life))
	requireForgotten(t, false, s)
	server.Kill()
	server.Start()
	require.NotEqual(t, life, requireForgotten(t, true, s))
}

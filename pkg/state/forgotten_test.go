package state_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

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

// Keys that were evicted may be marks. Those that expire are worth nothing.
func TestMemory_AfterAnEviction(t *testing.T) {
	t.Parallel()
	for policy, forgotten := range map[string]bool{"allkeys-lru": true, "volatile-ttl": false} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			s := open(t, at(devtest.StartRealRedis(t).URL()))
			require.NoError(t, s.Remembered(t.Context(), requireForgotten(t, true, s)))
			db := s.Redis()
			note := db.Get(t.Context(), "lf:1:life").Val()
			for i := range 100 {
				require.NoError(t, db.Set(t.Context(), fmt.Sprint("filler", i), strings.Repeat("x", 64<<10), time.Hour).Err())
			}
			used, err := s.Server(t.Context())
			require.NoError(t, err)
			require.NoError(t, db.ConfigSet(t.Context(), "maxmemory-policy", policy).Err())
			require.NoError(t, db.ConfigSet(t.Context(), "maxmemory", fmt.Sprint(used.UsedBytes-2<<20)).Err())
			require.Eventually(t, func() bool {
				now, err := s.Server(t.Context())
				return err == nil && now.Evicted > 0
			}, 10*time.Second, 10*time.Millisecond)
			require.NoError(t, db.ConfigSet(t.Context(), "maxmemory", "0").Err())
			require.NoError(t, db.Set(t.Context(), "lf:1:life", note, 0).Err(), "it may have been evicted too")
			requireForgotten(t, forgotten, s)
			if !forgotten {
				return
			}
			require.NoError(t, db.ConfigSet(t.Context(), "maxmemory-policy", "noeviction").Err())
			require.NoError(t, s.Remembered(t.Context(), requireForgotten(t, true, s)))
			requireForgotten(t, false, s)
		})
	}
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

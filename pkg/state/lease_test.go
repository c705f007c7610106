package state_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

func TestLease_OneHolder(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		a, err := s.Lease(t.Context(), "realm 9", time.Minute)
		require.NoError(t, err)
		_, err = s.Lease(t.Context(), "realm 9", time.Minute)
		require.ErrorIs(t, err, state.ErrHeld)
		require.NoError(t, a.Renew(t.Context()))

		other, err := s.Lease(t.Context(), "realm 8", time.Minute)
		require.NoError(t, err)
		require.NoError(t, other.Release(t.Context()))

		require.NoError(t, a.Release(t.Context()))
		require.NoError(t, a.Release(t.Context()))
		require.ErrorIs(t, a.Renew(t.Context()), state.ErrLost)

		b, err := s.Lease(t.Context(), "realm 9", time.Minute)
		require.NoError(t, err)
		require.Greater(t, b.Fence, a.Fence)
		require.NoError(t, a.Release(t.Context()), "somebody else's stays")
		require.NoError(t, b.Renew(t.Context()))
	})
}

func TestLease_RunsOut(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		a, err := s.Lease(t.Context(), "9", 50*time.Millisecond)
		require.NoError(t, err)
		var b *state.Lease
		require.Eventually(t, func() bool {
			b, err = s.Lease(t.Context(), "9", time.Minute)
			return err == nil
		}, 5*time.Second, 5*time.Millisecond)
		require.Greater(t, b.Fence, a.Fence)
		require.ErrorIs(t, a.Renew(t.Context()), state.ErrLost)
	})
}

func TestLease_FenceGrowsAfterRedisLostItsData(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		a, err := s.Lease(t.Context(), "9", time.Minute)
		require.NoError(t, err)
		require.NoError(t, s.Redis().FlushAll(t.Context()).Err())
		b, err := s.Lease(t.Context(), "9", time.Minute)
		require.NoError(t, err)
		require.Greater(t, b.Fence, a.Fence)
		require.ErrorIs(t, a.Renew(t.Context()), state.ErrLost)
	})
}

func TestLease_FenceGrowsWhenTheClockGoesBack(t *testing.T) {
	t.Parallel()
	r := miniredis.RunT(t)
	s := open(t, at("redis://"+r.Addr()))
	var last int64
	for _, now := range []time.Time{noon, noon, noon.Add(-time.Hour), noon.Add(time.Second)} {
		r.SetTime(now)
		l, err := s.Lease(t.Context(), "9", time.Minute)
		require.NoError(t, err)
		require.Greater(t, l.Fence, last)
		last = l.Fence
		require.NoError(t, l.Release(t.Context()))
	}
}

func TestLease_ReleaseWorksAfterTheContextEnded(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		a, err := s.Lease(t.Context(), "9", time.Minute)
		require.NoError(t, err)
		require.NoError(t, a.Release(cancelled(t)))
		_, err = s.Lease(t.Context(), "9", time.Minute)
		require.NoError(t, err)
	})
}

func TestLease_ExcludesUnderContention(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		var mu sync.Mutex // guards the rest
		var inside, taken int
		var last int64
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 20 {
					l, err := s.Lease(t.Context(), "9", time.Minute)
					if errors.Is(err, state.ErrHeld) {
						continue
					}
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					inside++
					taken++
					if inside != 1 || l.Fence <= last {
						t.Errorf("%d holders, fence %d after %d", inside, l.Fence, last)
					}
					last = l.Fence
					mu.Unlock()
					mu.Lock()
					inside--
					mu.Unlock()
					if err := l.Release(t.Context()); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		require.Positive(t, taken)
	})
}

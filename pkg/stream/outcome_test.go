package stream_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

type atomicCounter struct{ n atomic.Int64 }

func (c *atomicCounter) next() int { return int(c.n.Add(1)) }

func TestPermanent(t *testing.T) {
	cause := errors.New("column is missing")
	err := fmt.Errorf("write: %w", stream.Permanent(stream.ReasonSinkRefused, cause))
	reason, ok := stream.AsPermanent(err)
	require.True(t, ok)
	require.Equal(t, stream.ReasonSinkRefused, reason)
	require.ErrorIs(t, err, cause)

	_, ok = stream.AsPermanent(cause)
	require.False(t, ok)
	require.NoError(t, stream.Permanent(stream.ReasonPoison, nil))
}

func TestBackoff_GrowsToACeiling(t *testing.T) {
	var longest time.Duration
	for delivered := -1; delivered < 2000; delivered++ {
		d := stream.Backoff(delivered)
		require.GreaterOrEqual(t, d, 500*time.Millisecond)
		require.LessOrEqual(t, d, 5*time.Minute)
		longest = max(longest, d)
	}
	require.Greater(t, longest, 2*time.Minute)
	for i, step := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second} {
		for range 50 {
			d := stream.Backoff(i + 1)
			require.GreaterOrEqual(t, d, step/2)
			require.LessOrEqual(t, d, step)
		}
	}
}

func TestDelay(t *testing.T) {
	cause := errors.New("throttled")
	require.NoError(t, stream.RetryAfter(nil, time.Minute))
	err := fmt.Errorf("read: %w", stream.RetryAfter(cause, time.Minute))
	require.ErrorIs(t, err, cause)
	require.Equal(t, time.Minute, stream.Delay(err, 7))
	require.Equal(t, 500*time.Millisecond, stream.Delay(stream.RetryAfter(cause, -time.Second), 1), "never at once")
	require.LessOrEqual(t, stream.Delay(cause, 1), time.Second)
}

func TestReason_IsAWordForPeople(t *testing.T) {
	require.Equal(t, "realm not connected", stream.ReasonRealmNotConnected.String())
}

package stream_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

func TestHeartbeats_AreRecordedForWhoDidNotListen(t *testing.T) {
	t.Parallel()
	b := setup(t)
	read := func(service string, over time.Duration) stream.Heartbeats {
		h, err := b.conn.Heartbeats(t.Context(), service, over)
		require.NoError(t, err)
		return h
	}
	require.Equal(t, stream.Heartbeats{}, read("ingress", time.Minute), "nothing is recorded yet")
	require.NoError(t, b.conn.EnsureHeartbeats(t.Context()))
	require.NoError(t, b.conn.EnsureHeartbeats(t.Context()), "twice is as good")

	// As an older service beats: it knows of no record.
	for range 3 {
		require.NoError(t, b.conn.Beat(t.Context(), "ingress"))
	}
	require.NoError(t, b.conn.Beat(t.Context(), "processor"))
	var h stream.Heartbeats
	require.Eventually(t, func() bool {
		h = read("ingress", 30*time.Minute)
		return len(h.Ages) == 3 && len(read("processor", 30*time.Minute).Ages) == 1
	}, time.Minute, 10*time.Millisecond)
	for i, age := range h.Ages {
		require.Less(t, age, time.Minute)
		require.GreaterOrEqual(t, age, -time.Second)
		if i > 0 {
			require.LessOrEqual(t, age, h.Ages[i-1])
		}
	}
	require.False(t, h.Complete, "it is younger than what was asked for")
	require.Eventually(t, func() bool { return read("ingress", time.Millisecond).Complete }, time.Minute, 10*time.Millisecond)
	require.False(t, read("ingress", 2*time.Hour).Complete, "so far it does not reach")

	// A record that somebody has deleted is begun again.
	require.NoError(t, b.js.DeleteStream(t.Context(), stream.HeartbeatStream))
	require.Equal(t, stream.Heartbeats{}, read("ingress", time.Millisecond))
	require.NoError(t, b.conn.EnsureHeartbeats(t.Context()))
}

// More replicas than are read at once.
func TestHeartbeats_OfManyReplicas(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, b.conn.EnsureHeartbeats(t.Context()))
	const beats = 2500
	for range beats {
		require.NoError(t, b.conn.Beat(t.Context(), "ingress"))
	}
	require.Eventually(t, func() bool {
		h, err := b.conn.Heartbeats(t.Context(), "ingress", time.Minute)
		return err == nil && len(h.Ages) == beats
	}, time.Minute, 10*time.Millisecond)
}

// The record is small, and full it forgets the oldest.
func TestHeartbeats_AreBounded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, b.conn.EnsureHeartbeats(t.Context()))
	s, err := b.js.Stream(t.Context(), stream.HeartbeatStream)
	require.NoError(t, err)
	c := s.CachedInfo().Config
	require.Equal(t, jetstream.DiscardOld, c.Discard)
	require.Equal(t, time.Hour, c.MaxAge)
	require.EqualValues(t, 4<<20, c.MaxBytes)
}

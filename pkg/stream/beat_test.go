package stream_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

func TestConn_BeatsAreHeardByWhoListens(t *testing.T) {
	b := setup(t)
	proxy := devtest.NewProxy(t, host(t, b.url))
	listener := connect(t, "nats://"+proxy.Addr())
	var heard atomic.Int64
	stop, err := listener.Beats("ingress", func() { heard.Add(1) })
	require.NoError(t, err)
	var others atomic.Int64
	another, err := listener.Beats("processor", func() { others.Add(1) })
	require.NoError(t, err)
	defer another()

	// requireHeard beats until a beat is heard: one may be sent before anybody listens.
	requireHeard := func() {
		at := heard.Load()
		require.Eventually(t, func() bool {
			require.NoError(t, b.conn.Beat(t.Context(), "ingress"))
			return heard.Load() > at
		}, time.Minute, 10*time.Millisecond)
	}
	requireHeard()
	require.Zero(t, others.Load())
	require.Zero(t, b.stored(t, "LF_EVENTS"), "a beat is in no stream")

	proxy.Cut()
	proxy.Restore()
	requireHeard() // it listens again when it is connected again
	stop()
}

func TestConn_PositionTellsOneStreamFromTheNext(t *testing.T) {
	b := setup(t)
	first, err := b.conn.Position(t.Context())
	require.NoError(t, err)
	require.Zero(t, first.Last)
	require.True(t, first.Oldest.IsZero())
	require.NoError(t, b.conn.Publish(t.Context(), env("1", 1), env("1", 2)))
	p, err := b.conn.Position(t.Context())
	require.NoError(t, err)
	require.Equal(t, first.Created, p.Created)
	require.EqualValues(t, 2, p.Last)
	require.False(t, p.Oldest.IsZero())
	require.False(t, p.Newest.Before(p.Oldest))
	require.Zero(t, p.Lost)

	require.NoError(t, b.js.DeleteStream(t.Context(), stream.EventStream))
	_, err = b.conn.Position(t.Context())
	require.ErrorContains(t, err, "stream not found")
	require.NoError(t, b.conn.EnsureTopology(t.Context()))
	p, err = b.conn.Position(t.Context())
	require.NoError(t, err)
	require.NotEqual(t, first.Created, p.Created)
	require.Zero(t, p.Last)
}

package stream_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

func TestConn_PublishStoresEveryEnvelope(t *testing.T) {
	b := setup(t)
	var envs []*ledgerfeedv1.Envelope
	for i := range 300 {
		envs = append(envs, env("310687", i))
	}
	require.NoError(t, b.conn.Publish(t.Context(), envs...))
	require.EqualValues(t, 300, b.stored(t, "LF_EVENTS"))

	s, err := b.js.Stream(t.Context(), "LF_EVENTS")
	require.NoError(t, err)
	m, err := s.GetMsg(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, "lf.event.33.310687", m.Subject)
	require.Equal(t, envs[0].Id, m.Header.Get("Nats-Msg-Id"))
	got, err := envelope.Decode(m.Data)
	require.NoError(t, err)
	require.Equal(t, envs[0].Id, got.Id)
}

// Who reads the stream without reading envelopes finds the trace in the headers.
func TestConn_PublishCarriesTheTrace(t *testing.T) {
	b := setup(t)
	e := env("1", 1)
	e.Traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	require.NoError(t, b.conn.Publish(t.Context(), e, env("1", 2)))
	require.NoError(t, b.conn.PublishRetry(t.Context(), "a", e))
	for _, tc := range []struct {
		stream string
		seq    uint64
		want   string
	}{{"LF_EVENTS", 1, e.Traceparent}, {"LF_EVENTS", 2, ""}, {"LF_RETRY", 1, e.Traceparent}} {
		s, err := b.js.Stream(t.Context(), tc.stream)
		require.NoError(t, err)
		m, err := s.GetMsg(t.Context(), tc.seq)
		require.NoError(t, err)
		require.Equal(t, tc.want, m.Header.Get("traceparent"), tc)
	}
}

func TestConn_PublishNothingIsNothing(t *testing.T) {
	b := setup(t)
	require.NoError(t, b.conn.Publish(within(t, 10*time.Second)))
	require.Empty(t, b.conn.PublishChanges(within(t, 10*time.Second)))
	require.Zero(t, b.stored(t, "LF_EVENTS"))
}

func TestConn_PublishTwiceIsStoredOnce(t *testing.T) {
	b := setup(t)
	require.NoError(t, b.conn.Publish(t.Context(), env("1", 1), env("1", 2)))
	require.NoError(t, b.conn.Publish(t.Context(), env("1", 2), env("1", 3)), "a duplicate counts as acknowledged")
	require.EqualValues(t, 3, b.stored(t, "LF_EVENTS"))
}

func TestConn_PublishOddRealms(t *testing.T) {
	b := setup(t)
	for _, realm := range []string{"*", ">", "a.b", " ", "\x00", strings.Repeat("9", 5000), "é"} {
		require.NoError(t, b.conn.Publish(t.Context(), env(realm, 1)), "%q", realm)
	}
	require.EqualValues(t, 7, b.stored(t, "LF_EVENTS"))
}

func TestConn_PublishSendsNothingIfOneIsInvalid(t *testing.T) {
	b := setup(t)
	bad := env("1", 2)
	bad.Events = nil
	err := b.conn.Publish(t.Context(), env("1", 1), bad)
	var invalid *envelope.InvalidError
	require.ErrorAs(t, err, &invalid)
	require.Equal(t, "events", invalid.Field)
	require.Zero(t, b.stored(t, "LF_EVENTS"))
}

func TestConn_PublishToAFullStream(t *testing.T) {
	b := setup(t, func(c *stream.Config) { c.EventsMaxBytes = 1 << 20 })
	big := func(n int) *ledgerfeedv1.Envelope {
		e := env("1", n)
		e.Events[0].Id = strings.Repeat("x", 200<<10)
		return e
	}
	var err error
	var stored int
	for ; err == nil; stored++ {
		require.Less(t, stored, 100)
		err = b.conn.Publish(t.Context(), big(stored))
	}
	require.ErrorIs(t, err, stream.ErrFull)
	require.ErrorIs(t, err, stream.ErrNotDurable)
	require.EqualValues(t, stored-1, b.stored(t, "LF_EVENTS"), "what was acknowledged stays")

	s, err := b.js.Stream(t.Context(), "LF_EVENTS")
	require.NoError(t, err)
	require.NoError(t, s.Purge(t.Context()))
	require.NoError(t, b.conn.Publish(t.Context(), big(stored)), "and there is room again later")
}

func TestConn_PublishLaterLeavesRoomForWebhooks(t *testing.T) {
	b := setup(t, func(c *stream.Config) { c.EventsMaxBytes = 1 << 20 })
	n := 0
	big := func() *ledgerfeedv1.Envelope {
		n++
		e := env("1", n)
		e.Events[0].Id = strings.Repeat("x", 200<<10)
		return e
	}
	for range 4 {
		require.NoError(t, b.conn.PublishLater(t.Context(), big()))
	}
	err := b.conn.PublishLater(t.Context(), big())
	require.ErrorIs(t, err, stream.ErrNotDurable)
	require.ErrorContains(t, err, "for webhooks")
	require.EqualValues(t, 4, b.stored(t, "LF_EVENTS"))
	require.NoError(t, b.conn.Publish(t.Context(), big()))
}

func TestConn_PublishTooLarge(t *testing.T) {
	b := setup(t)
	e := env("1", 1)
	e.Events[0].Id = strings.Repeat("x", devserver.MaxPayload)
	err := b.conn.Publish(t.Context(), e)
	require.ErrorIs(t, err, stream.ErrTooLarge)
	require.ErrorIs(t, err, stream.ErrNotDurable)
}

func TestConn_PublishWithoutAStream(t *testing.T) {
	b := setup(t)
	require.NoError(t, b.js.DeleteStream(t.Context(), "LF_EVENTS"))
	require.ErrorIs(t, b.conn.Publish(t.Context(), env("1", 1)), stream.ErrNotDurable)

	// Somebody else's stream on our subjects is not ours.
	_, err := b.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"lf.event.>"}})
	require.NoError(t, err)
	defer b.js.DeleteStream(context.Background(), "OTHER")
	require.ErrorIs(t, b.conn.Publish(t.Context(), env("1", 1)), stream.ErrNotDurable)
}

// proxied is a bundle whose connection goes through a proxy.
func proxied(t *testing.T, change ...func(*stream.Config)) (*bundle, *devtest.Proxy) {
	t.Helper()
	b := setup(t)
	proxy := devtest.NewProxy(t, host(t, b.url))
	b.conn = connect(t, "nats://"+proxy.Addr(), change...)
	return b, proxy
}

// I1: the acknowledgement is lost on its way. The message may be stored, but
// nobody told us.
func TestConn_PublishIsNotDurableWithoutTheAck(t *testing.T) {
	b, proxy := proxied(t)
	proxy.Mute()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := b.conn.Publish(ctx, env("1", 1), env("1", 2))
	require.ErrorIs(t, err, stream.ErrNotDurable)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.EqualValues(t, 2, b.stored(t, "LF_EVENTS"))

	proxy.Unmute()
	require.NoError(t, b.conn.Publish(t.Context(), env("1", 1), env("1", 2)), "publishing again is safe")
	require.EqualValues(t, 2, b.stored(t, "LF_EVENTS"))
}

func TestConn_PublishHasADeadlineOfItsOwn(t *testing.T) {
	b, proxy := proxied(t, func(c *stream.Config) { c.PublishTimeout = 200 * time.Millisecond })
	proxy.Mute()
	require.ErrorIs(t, b.conn.Publish(context.Background(), env("1", 1)), context.DeadlineExceeded)
}

// Trap: a publish that waits for its acknowledgement would wait in vain once
// the connection is gone; the caller is told at once.
func TestConn_PendingPublishFailsOnDisconnect(t *testing.T) {
	b, proxy := proxied(t, func(c *stream.Config) { c.PublishTimeout = time.Minute })
	proxy.Mute()
	result := make(chan error, 1)
	go func() { result <- b.conn.Publish(t.Context(), env("1", 1)) }()
	require.Eventually(t, func() bool { return b.stored(t, "LF_EVENTS") == 1 }, 5*time.Second, 5*time.Millisecond)

	proxy.Cut()
	select {
	case err := <-result:
		require.ErrorIs(t, err, stream.ErrNotDurable)
		require.ErrorIs(t, err, nats.ErrDisconnected)
	case <-time.After(5 * time.Second):
		t.Fatal("the publish still waits")
	}
}

// Trap: the client's reconnect buffer would publish later what it was told has
// failed, behind our back and in another order.
func TestConn_PublishWhileDisconnectedIsNeverSentLater(t *testing.T) {
	b, proxy := proxied(t)
	proxy.Cut()
	require.Eventually(t, func() bool { return b.conn.Ready(within(t, 100*time.Millisecond)) != nil }, 5*time.Second, 5*time.Millisecond)
	require.ErrorIs(t, b.conn.Publish(t.Context(), env("1", 1)), stream.ErrNotDurable)

	proxy.Restore()
	require.Eventually(t, func() bool { return b.conn.Ready(within(t, time.Second)) == nil }, 10*time.Second, 5*time.Millisecond)
	require.NoError(t, b.conn.Publish(t.Context(), env("1", 2)))
	require.EqualValues(t, 1, b.stored(t, "LF_EVENTS"), "only the second one")
}

func TestConn_PublishSurvivesARestartOfTheBroker(t *testing.T) {
	dir := t.TempDir()
	server, err := devserver.StartNATS(devserver.NATSOptions{Dir: dir, SyncAlways: true})
	require.NoError(t, err)
	url := server.URL()
	conn := connect(t, url)
	require.NoError(t, conn.EnsureTopology(t.Context()))
	require.NoError(t, conn.Publish(t.Context(), env("1", 1)))

	server.Close()
	require.ErrorIs(t, conn.Publish(t.Context(), env("1", 2)), stream.ErrNotDurable)

	server, err = devserver.StartNATS(devserver.NATSOptions{Dir: dir, Listen: host(t, url)})
	require.NoError(t, err)
	defer server.Close()
	require.Eventually(t, func() bool { return conn.Publish(t.Context(), env("1", 2)) == nil }, 10*time.Second, 10*time.Millisecond)
	lag, err := conn.Lag(t.Context(), stream.Events, "none-yet")
	require.NoError(t, err)
	require.EqualValues(t, 2, lag.Stored)
}

// What is in flight is bounded: a flood waits, and ends with its context.
func TestConn_PublishWaitsWhenTooMuchIsInFlight(t *testing.T) {
	b, proxy := proxied(t, func(c *stream.Config) { c.PublishTimeout = time.Minute })
	proxy.Mute()
	ctx, cancel := context.WithCancel(t.Context())
	var flood []*ledgerfeedv1.Envelope
	for i := range 4096 {
		flood = append(flood, env("1", i))
	}
	result := make(chan error, 1)
	go func() { result <- b.conn.Publish(ctx, flood...) }()
	require.Eventually(t, func() bool { return b.stored(t, "LF_EVENTS") == 4096 }, 20*time.Second, 10*time.Millisecond)

	err := b.conn.Publish(within(t, 100*time.Millisecond), env("1", 5000))
	require.ErrorContains(t, err, "too much in flight")
	require.ErrorIs(t, err, stream.ErrNotDurable)

	cancel()
	require.ErrorIs(t, <-result, context.Canceled)
	proxy.Unmute()
	require.NoError(t, b.conn.Publish(t.Context(), env("1", 5000)))
}

func TestConn_PublishRetryGoesToTheSinksQueue(t *testing.T) {
	b := setup(t)
	e := env("310687", 1)
	require.NoError(t, b.conn.PublishRetry(t.Context(), "postgres", e))
	require.Empty(t, e.Sink, "the caller's envelope is not changed")

	s, err := b.js.Stream(t.Context(), "LF_RETRY")
	require.NoError(t, err)
	m, err := s.GetMsg(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, "lf.retry.postgres.33.310687", m.Subject)
	got, err := envelope.Decode(m.Data)
	require.NoError(t, err)
	require.Equal(t, "postgres", got.Sink)
}

// The same envelope comes back with other events of it when another part of it
// failed: the broker must not take that for a duplicate.
func TestConn_PublishRetryTellsPartsOfAnEnvelopeApart(t *testing.T) {
	b := setup(t)
	part := func(n int) *ledgerfeedv1.Envelope {
		e := env("1", n)
		e.Id = "same"
		return e
	}
	for range 2 {
		require.NoError(t, b.conn.PublishRetry(t.Context(), "postgres", part(1)))
		require.NoError(t, b.conn.PublishRetry(t.Context(), "postgres", part(2)))
		require.NoError(t, b.conn.PublishRetry(t.Context(), "jsonl", part(2)))
	}
	require.EqualValues(t, 3, b.stored(t, "LF_RETRY"))
}

func BenchmarkConn_Publish(b *testing.B) {
	for _, sync := range []bool{true, false} {
		for _, publishers := range []int{1, 64} {
			b.Run(fmt.Sprintf("sync=%t/publishers=%d", sync, publishers), func(b *testing.B) {
				server, err := devserver.StartNATS(devserver.NATSOptions{Dir: b.TempDir(), SyncAlways: sync})
				require.NoError(b, err)
				defer server.Close()
				conn, err := stream.Connect(b.Context(), stream.Options{Config: config(server.URL(), func(c *stream.Config) { c.EventsMaxBytes = 4 << 30 })})
				require.NoError(b, err)
				defer conn.Close()
				require.NoError(b, conn.EnsureTopology(b.Context()))
				b.ReportAllocs()
				b.SetParallelism(max(publishers/2, 1))
				var n atomicCounter
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						e := env("1", n.next())
						e.Events[0].Id = strings.Repeat("x", 500)
						if err := conn.Publish(b.Context(), e); err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		}
	}
}

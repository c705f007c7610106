package stream_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

// consumer runs Consume and hands its deliveries to the test.
type consumer struct {
	messages chan *stream.Message
	cancel   context.CancelFunc
	done     chan error
}

func consume(t *testing.T, conn *stream.Conn, change ...func(*stream.ConsumeOptions)) *consumer {
	t.Helper()
	o := stream.ConsumeOptions{Queue: stream.Events, Durable: "processor"}
	for _, f := range change {
		f(&o)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &consumer{messages: make(chan *stream.Message, 10_000), cancel: cancel, done: make(chan error, 1)}
	go func() { c.done <- conn.Consume(ctx, o, func(m *stream.Message) { c.messages <- m }) }()
	t.Cleanup(func() { cancel() })
	return c
}

func (c *consumer) next(t *testing.T) *stream.Message {
	t.Helper()
	select {
	case m := <-c.messages:
		return m
	case err := <-c.done:
		t.Fatalf("consume ended: %v", err)
	case <-time.After(20 * time.Second):
		t.Fatal("no message")
	}
	return nil
}

func (c *consumer) stop(t *testing.T) {
	t.Helper()
	c.cancel()
	select {
	case err := <-c.done:
		require.NoError(t, err)
	case <-time.After(20 * time.Second):
		t.Fatal("consume does not end")
	}
}

func id(t *testing.T, m *stream.Message) string {
	t.Helper()
	e, err := m.Envelope()
	require.NoError(t, err)
	return e.Events[0].EntityId
}

func (b *bundle) publish(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		require.NoError(t, b.conn.Publish(t.Context(), env("1", i)))
	}
}

func TestConn_ConsumeDeliversInOrderAndAckRemoves(t *testing.T) {
	b := setup(t)
	before := time.Now().Add(-time.Second)
	b.publish(t, 5)
	c := consume(t, b.conn)
	for i := range 5 {
		m := c.next(t)
		require.Equal(t, fmt.Sprint(i), id(t, m))
		require.Equal(t, "lf.event.55.1", m.Subject())
		require.Equal(t, 1, m.Delivered())
		require.Equal(t, fmt.Sprintf("LF_EVENTS/%d", i+1), m.ID())
		require.True(t, m.Published().After(before))
		require.NoError(t, m.InProgress())
		require.NoError(t, m.Ack(t.Context()))
		// Confirmed: no need to wait for it.
		require.EqualValues(t, 4-i, b.stored(t, "LF_EVENTS"))
	}
	c.stop(t)
}

func TestConn_ConsumeRetryGetsOneSinkOnly(t *testing.T) {
	b := setup(t)
	require.NoError(t, b.conn.PublishRetry(t.Context(), "jsonl", env("1", 1)))
	require.NoError(t, b.conn.PublishRetry(t.Context(), "postgres", env("1", 2)))
	c := consume(t, b.conn, func(o *stream.ConsumeOptions) { o.Queue, o.Durable = stream.Retry("postgres"), "retry-postgres" })
	m := c.next(t)
	require.Equal(t, "2", id(t, m))
	require.NoError(t, m.Ack(t.Context()))
	c.stop(t)
	require.EqualValues(t, 1, b.stored(t, "LF_RETRY"))
}

// Trap: the broker redelivers a bare nak at once, in a busy loop.
func TestMessage_NakAlwaysWaits(t *testing.T) {
	b := setup(t)
	b.publish(t, 1)
	c := consume(t, b.conn)
	for _, delay := range []time.Duration{0, -time.Second, 700 * time.Millisecond} {
		m := c.next(t)
		at := time.Now()
		require.NoError(t, m.Nak(delay))
		again := c.next(t)
		require.GreaterOrEqual(t, time.Since(at), 450*time.Millisecond, "delay %s", delay)
		require.Equal(t, m.Delivered()+1, again.Delivered())
		require.NoError(t, again.Nak(500*time.Millisecond))
	}
	c.stop(t)
}

// Trap: BackOff overrides AckWait, and MaxDeliver leaves a message in a work
// queue that nobody gets any more. A durable that has them is put right.
func TestConn_ConsumePutsADurableRight(t *testing.T) {
	b := setup(t)
	_, err := b.js.CreateConsumer(t.Context(), "LF_EVENTS", jetstream.ConsumerConfig{
		Durable: "processor", FilterSubject: "lf.event.>", AckPolicy: jetstream.AckExplicitPolicy,
		MaxDeliver: 3, BackOff: []time.Duration{time.Hour}, AckWait: time.Hour,
	})
	require.NoError(t, err)
	b.publish(t, 1)
	c := consume(t, b.conn, func(o *stream.ConsumeOptions) { o.AckWait = 300 * time.Millisecond })
	for delivered := 1; delivered <= 5; delivered++ {
		require.Equal(t, delivered, c.next(t).Delivered(), "an unsettled message comes again after AckWait, without limit")
	}
	c.stop(t)

	info, err := b.js.Consumer(t.Context(), "LF_EVENTS", "processor")
	require.NoError(t, err)
	got := info.CachedInfo().Config
	require.Equal(t, -1, got.MaxDeliver)
	require.Empty(t, got.BackOff)
	require.Equal(t, 300*time.Millisecond, got.AckWait)
	require.Equal(t, jetstream.AckExplicitPolicy, got.AckPolicy)
}

func TestMessage_InProgressStartsAckWaitAnew(t *testing.T) {
	b := setup(t)
	b.publish(t, 1)
	c := consume(t, b.conn, func(o *stream.ConsumeOptions) { o.AckWait = 600 * time.Millisecond })
	m := c.next(t)
	end := time.After(2 * time.Second)
	for tick := time.NewTicker(100 * time.Millisecond); ; {
		select {
		case <-tick.C:
			require.NoError(t, m.InProgress())
			continue
		case <-c.messages:
			t.Fatal("delivered again although in progress")
		case <-end:
		}
		break
	}
	require.NoError(t, m.Ack(t.Context()))
	c.stop(t)
}

func TestConn_ConsumeBoundsWhatIsInFlight(t *testing.T) {
	b := setup(t)
	b.publish(t, 50)
	c := consume(t, b.conn, func(o *stream.ConsumeOptions) { o.MaxAckPending = 7 })
	var held []*stream.Message
	for range 7 {
		held = append(held, c.next(t))
	}
	lag := b.lag(t, "processor")
	require.EqualValues(t, 7, lag.AckPending)
	require.EqualValues(t, 43, lag.Pending)
	require.Empty(t, c.messages)

	for range 43 {
		require.NoError(t, held[0].Ack(t.Context()))
		held = append(held[1:], c.next(t))
	}
	c.stop(t)
}

// A pull that may bring less than one message would wait for ever.
func TestConn_ConsumeTakesMessagesAboveMaxBytes(t *testing.T) {
	b := setup(t)
	for i := range 5 {
		e := env("1", i)
		e.Events[0].Id = strings.Repeat("x", 5<<20)
		require.NoError(t, b.conn.Publish(t.Context(), e))
	}
	c := consume(t, b.conn, func(o *stream.ConsumeOptions) { o.MaxBytes = 1000 })
	for range 5 {
		require.NoError(t, c.next(t).Ack(t.Context()))
	}
	c.stop(t)
}

func TestConn_ConsumeSurvivesARestartOfTheBroker(t *testing.T) {
	dir := t.TempDir()
	server, err := devserver.StartNATS(devserver.NATSOptions{Dir: dir})
	require.NoError(t, err)
	url := server.URL()
	conn := connect(t, url)
	require.NoError(t, conn.EnsureTopology(t.Context()))
	c := consume(t, conn, func(o *stream.ConsumeOptions) { o.AckWait = time.Second })
	require.NoError(t, conn.Publish(t.Context(), env("1", 1), env("1", 2)))
	require.NoError(t, c.next(t).Ack(t.Context()))
	held := c.next(t)

	server.Close()
	require.Error(t, held.Ack(within(t, 100*time.Millisecond)), "an ack nobody confirmed is an error")
	server, err = devserver.StartNATS(devserver.NATSOptions{Dir: dir, Listen: host(t, url)})
	require.NoError(t, err)
	defer server.Close()

	again := c.next(t)
	require.Equal(t, "2", id(t, again), "the unsettled message comes again")
	require.NoError(t, again.Ack(t.Context()))
	require.Eventually(t, func() bool { return conn.Publish(t.Context(), env("1", 3)) == nil }, 10*time.Second, 10*time.Millisecond)
	require.NoError(t, c.next(t).Ack(t.Context()))
	c.stop(t)
}

func TestConn_ConsumeMakesADeletedDurableAnew(t *testing.T) {
	b := setup(t)
	b.publish(t, 1)
	c := consume(t, b.conn)
	first := c.next(t)

	require.NoError(t, b.js.DeleteConsumer(t.Context(), "LF_EVENTS", "processor"))
	again := c.next(t)
	require.Equal(t, id(t, first), id(t, again), "what was not acked is delivered again")
	require.NoError(t, again.Ack(t.Context()))
	require.NoError(t, b.conn.Publish(t.Context(), env("1", 9)))
	require.NoError(t, c.next(t).Ack(t.Context()))
	c.stop(t)
}

func TestConn_ConsumeMakesADeletedStreamAnew(t *testing.T) {
	b := setup(t)
	c := consume(t, b.conn)
	b.publish(t, 1)
	require.NoError(t, c.next(t).Ack(t.Context()))

	require.NoError(t, b.js.DeleteStream(t.Context(), "LF_EVENTS"))
	require.Eventually(t, func() bool { return b.conn.Publish(t.Context(), env("1", 9)) == nil }, 10*time.Second, 50*time.Millisecond)
	require.NoError(t, c.next(t).Ack(t.Context()))
	c.stop(t)
}

// I13: a consumer that stops leaves nothing stuck: what it did not look at goes
// to another at once, not after AckWait, and handle is not called any more.
func TestConn_ConsumeStopsCleanly(t *testing.T) {
	b := setup(t)
	b.publish(t, 100)

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var mu sync.Mutex
	var handled []string
	over := false
	err := b.conn.Consume(ctx, stream.ConsumeOptions{Queue: stream.Events, Durable: "processor", AckWait: time.Hour}, func(m *stream.Message) {
		mu.Lock()
		defer mu.Unlock()
		if over {
			t.Error("handled after Consume returned")
		}
		handled = append(handled, id(t, m))
		if err := m.Ack(context.Background()); err != nil {
			t.Error(err)
		}
		if len(handled) == 10 {
			cancel()
		}
	})
	require.NoError(t, err)
	mu.Lock()
	over = true
	mu.Unlock()
	require.Len(t, handled, 10)

	c := consume(t, b.conn, func(o *stream.ConsumeOptions) { o.AckWait = time.Hour })
	for range 90 {
		m := c.next(t)
		handled = append(handled, id(t, m))
		require.NoError(t, m.Ack(t.Context()))
	}
	c.stop(t)
	seen := map[string]bool{}
	for _, s := range handled {
		seen[s] = true
	}
	require.Len(t, seen, 100)
	require.Zero(t, b.stored(t, "LF_EVENTS"))
}

func TestConn_ConsumeStopsWhileTheBrokerIsAway(t *testing.T) {
	b, proxy := proxied(t)
	c := consume(t, b.conn)
	b.publish(t, 1)
	require.NoError(t, c.next(t).Ack(t.Context()))
	proxy.Cut()
	require.Eventually(t, func() bool { return b.conn.Ready(within(t, 100*time.Millisecond)) != nil }, 5*time.Second, 5*time.Millisecond)
	at := time.Now()
	c.stop(t)
	require.Less(t, time.Since(at), 3*time.Second)
}

func TestConn_ConsumeReportsWhatCannotWork(t *testing.T) {
	b := setup(t)
	try := func(o stream.ConsumeOptions) error {
		return b.conn.Consume(within(t, 5*time.Second), o, func(*stream.Message) {})
	}
	require.ErrorContains(t, try(stream.ConsumeOptions{Queue: stream.Events}), `durable ""`)
	require.ErrorContains(t, try(stream.ConsumeOptions{Queue: stream.Events, Durable: "a.b"}), `durable "a.b"`)
	require.ErrorContains(t, try(stream.ConsumeOptions{Queue: "LF_EVENTS", Durable: "a"}), `queue "LF_EVENTS"`)
	require.ErrorContains(t, try(stream.ConsumeOptions{Queue: stream.Retry(""), Durable: "a"}), `queue "retry/"`)
	require.ErrorContains(t, try(stream.ConsumeOptions{Queue: stream.Events, Durable: "a", AckWait: -1}), "must not be negative")

	c := consume(t, b.conn)
	b.publish(t, 1)
	require.NoError(t, c.next(t).Ack(t.Context()))
	var api *jetstream.APIError
	err := try(stream.ConsumeOptions{Queue: stream.Events, Durable: "second"})
	require.True(t, errors.As(err, &api), "a second durable on a work queue: %v", err)
	c.stop(t)

	c = consume(t, b.conn)
	b.publish(t, 1)
	b.conn.Close()
	require.ErrorIs(t, <-c.done, stream.ErrClosed)
}

// Two replicas share the durable: each message goes to one of them.
func TestConn_ConsumeSharesBetweenReplicas(t *testing.T) {
	b := setup(t)
	one, two := consume(t, b.conn), consume(t, connect(t, b.url))
	seen := map[string]int{}
	b.publish(t, 200)
	for range 200 {
		var m *stream.Message
		select {
		case m = <-one.messages:
		case m = <-two.messages:
		case <-time.After(10 * time.Second):
			t.Fatal("no message")
		}
		seen[id(t, m)]++
		require.NoError(t, m.Ack(t.Context()))
	}
	require.Len(t, seen, 200)
	one.stop(t)
	two.stop(t)
}

func (b *bundle) lag(t *testing.T, durable string) stream.Lag {
	t.Helper()
	lag, err := b.conn.Lag(t.Context(), stream.Events, durable)
	require.NoError(t, err)
	lag.Oldest = lag.Oldest.UTC()
	return lag
}

func TestConn_Lag(t *testing.T) {
	b := setup(t)
	require.Empty(t, cmp.Diff(stream.Lag{}, b.lag(t, "processor")))
	b.publish(t, 3)
	lag := b.lag(t, "processor")
	require.WithinDuration(t, time.Now(), lag.Oldest, time.Minute)
	lag.Oldest = time.Time{}
	require.Empty(t, cmp.Diff(stream.Lag{Pending: 3, Stored: 3}, lag), "no consumer yet")

	c := consume(t, b.conn, func(o *stream.ConsumeOptions) { o.MaxAckPending = 2 })
	require.NoError(t, c.next(t).Nak(200*time.Millisecond))
	c.next(t)
	again := c.next(t)
	require.Equal(t, 2, again.Delivered())
	lag = b.lag(t, "processor")
	lag.Oldest = time.Time{}
	require.Empty(t, cmp.Diff(stream.Lag{Pending: 1, AckPending: 2, Redelivered: 1, Stored: 3}, lag))
	c.stop(t)
}

// Trap: a message over MaxDeliver is in no consumer's lag. Stored shows it.
func TestConn_LagShowsOrphans(t *testing.T) {
	b := setup(t)
	b.publish(t, 1)
	cons, err := b.js.CreateConsumer(t.Context(), "LF_EVENTS", jetstream.ConsumerConfig{
		Durable: "foreign", FilterSubject: "lf.event.>", AckPolicy: jetstream.AckExplicitPolicy, MaxDeliver: 1, AckWait: 50 * time.Millisecond,
	})
	require.NoError(t, err)
	_, err = cons.Next()
	require.NoError(t, err)
	require.Eventually(t, func() bool { return b.lag(t, "foreign").AckPending == 0 }, 10*time.Second, 20*time.Millisecond)
	lag := b.lag(t, "foreign")
	require.Zero(t, lag.Pending)
	require.EqualValues(t, 1, lag.Stored)
}

func TestConn_Usage(t *testing.T) {
	b := setup(t)
	b.publish(t, 3)
	all, err := b.conn.Usage(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 4)
	require.Equal(t, "LF_EVENTS", all[0].Stream)
	require.EqualValues(t, 3, all[0].Messages)
	require.EqualValues(t, 64<<20, all[0].MaxBytes)
	require.NotZero(t, all[0].Bytes)
	require.NoError(t, b.conn.EnsureChanges(t.Context()))
	all, err = b.conn.Usage(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 5)
}

func TestConn_UsageSetsTheGauges(t *testing.T) {
	b := setup(t)
	b.publish(t, 3)
	registry := prometheus.NewRegistry()
	c, err := stream.Connect(t.Context(), stream.Options{Config: config(b.url), Registerer: registry})
	require.NoError(t, err)
	defer c.Close()
	gauges := func() map[string]float64 {
		all := map[string]float64{}
		families, err := registry.Gather()
		require.NoError(t, err)
		for _, f := range families {
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					if l.GetName() == "stream" {
						all[f.GetName()+" "+l.GetValue()] = m.GetGauge().GetValue()
					}
				}
			}
		}
		return all
	}
	require.Empty(t, gauges(), "nothing is known before the broker was asked")
	usage, err := c.Usage(t.Context())
	require.NoError(t, err)
	want := map[string]float64{
		"ledgerfeed_stream_bytes LF_EVENTS": float64(usage[0].Bytes), "ledgerfeed_stream_max_bytes LF_EVENTS": 64 << 20,
		"ledgerfeed_stream_bytes LF_RETRY": 0, "ledgerfeed_stream_max_bytes LF_RETRY": 64 << 20,
		"ledgerfeed_stream_bytes LF_DEAD": 0, "ledgerfeed_stream_max_bytes LF_DEAD": 64 << 20,
		"ledgerfeed_stream_bytes LF_GAPS": 0, "ledgerfeed_stream_max_bytes LF_GAPS": 256 << 20,
	}
	require.Empty(t, cmp.Diff(want, gauges()))
	require.NotZero(t, usage[0].Bytes)
}

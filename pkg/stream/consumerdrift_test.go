package stream_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

var group3 = stream.ConsumeOptions{Queue: stream.Group(3), Durable: stream.GroupDurable("processor", 3), Prioritized: true}

// A consumer that was edited or made again by hand is named, with what to do.
func TestConsumerDrift_NamesWhatSomebodyChanged(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := consume(t, b.conn, func(o *stream.ConsumeOptions) { *o = group3 })
	require.Eventually(t, func() bool { return b.conn.ConsumerDrift(t.Context(), group3) == nil }, 20*time.Second, 10*time.Millisecond)
	c.stop(t)
	cons, err := b.js.Consumer(t.Context(), stream.EventStream, group3.Durable)
	require.NoError(t, err)
	as := cons.CachedInfo().Config
	for field, change := range map[string]func(*jetstream.ConsumerConfig){
		"ack_wait":        func(c *jetstream.ConsumerConfig) { c.AckWait = time.Hour },
		"max_deliver":     func(c *jetstream.ConsumerConfig) { c.MaxDeliver = 3 },
		"max_ack_pending": func(c *jetstream.ConsumerConfig) { c.MaxAckPending = 1 },
		"filter_subjects": func(c *jetstream.ConsumerConfig) { c.FilterSubjects = c.FilterSubjects[:1] },
		"backoff":         func(c *jetstream.ConsumerConfig) { c.BackOff = []time.Duration{time.Second}; c.AckWait = 0 },
		"priority_policy": func(c *jetstream.ConsumerConfig) { c.PriorityPolicy = jetstream.PriorityPolicyOverflow },
		"priority_groups": func(c *jetstream.ConsumerConfig) { c.PriorityGroups = []string{"others"} },
		"mem_storage":     func(c *jetstream.ConsumerConfig) { c.MemoryStorage = true },
		"headers_only":    func(c *jetstream.ConsumerConfig) { c.HeadersOnly = true },
		"paused":          func(c *jetstream.ConsumerConfig) { until := time.Now().Add(time.Hour); c.PauseUntil = &until },
		"consumer":        nil,
	} {
		require.NoError(t, b.js.DeleteConsumer(t.Context(), stream.EventStream, group3.Durable), field)
		if changed := as; change != nil {
			change(&changed)
			_, err := b.js.CreateConsumer(t.Context(), stream.EventStream, changed)
			require.NoError(t, err, field)
		}
		found := map[string]*stream.DriftError{}
		for _, d := range stream.Drifts(b.conn.ConsumerDrift(t.Context(), group3)) {
			found[d.Field] = d
		}
		require.Contains(t, found, field)
		require.Equal(t, group3.Durable, found[field].Consumer)
		require.NotEmpty(t, found[field].Remedy, field)
		if change == nil {
			_, err := b.js.CreateConsumer(t.Context(), stream.EventStream, as)
			require.NoError(t, err)
		}
	}
}

// A stream that is no work queue takes a consumer that acks by itself.
func TestConsumerDrift_OfTheGaps(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.js.CreateConsumer(t.Context(), stream.GapStream, jetstream.ConsumerConfig{
		Durable: "gaps-pg", AckPolicy: jetstream.AckNonePolicy, DeliverPolicy: jetstream.DeliverNewPolicy, FilterSubject: "lf.gap.>", AckWait: time.Minute,
	})
	require.NoError(t, err)
	remedies := map[string]string{}
	for _, d := range stream.Drifts(b.conn.ConsumerDrift(t.Context(), stream.ConsumeOptions{Queue: stream.Gaps, Durable: "gaps-pg"})) {
		remedies[d.Field] = d.Remedy
	}
	for _, field := range []string{"ack_policy", "deliver_policy"} {
		require.Contains(t, remedies[field], "nats consumer rm LF_GAPS gaps-pg")
	}
}

// What a running service consumes is compared too: logged once, counted, and set again by
// a restart.
func TestConsumerDrift_IsWatched(t *testing.T) {
	t.Parallel()
	url := devtest.NATS(t)
	core, logged := observer.New(zap.WarnLevel)
	metrics := prometheus.NewRegistry()
	conn, err := stream.Connect(t.Context(), stream.Options{Config: config(url), Name: t.Name(), Logger: zap.New(core), Registerer: metrics})
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	require.NoError(t, conn.EnsureTopology(t.Context()))
	js := raw(t, url)
	c := consume(t, conn, func(o *stream.ConsumeOptions) { *o = group3 })
	require.Eventually(t, func() bool { return conn.ConsumerDrift(t.Context(), group3) == nil }, 20*time.Second, 10*time.Millisecond)
	known := conn.LookForDrift(t.Context(), nil)
	require.Empty(t, known)

	cons, err := js.Consumer(t.Context(), stream.EventStream, group3.Durable)
	require.NoError(t, err)
	changed := cons.CachedInfo().Config
	changed.MaxDeliver = 3
	_, err = js.UpdateConsumer(t.Context(), stream.EventStream, changed)
	require.NoError(t, err)
	for range 3 {
		known = conn.LookForDrift(t.Context(), known)
	}
	require.Equal(t, 1, logged.FilterMessage("consumer differs from the configuration").Len())
	n, err := testutil.GatherAndCount(metrics, "ledgerfeed_stream_consumer_drift")
	require.NoError(t, err)
	require.Equal(t, 1, n)

	c.stop(t)
	require.Empty(t, conn.LookForDrift(t.Context(), known), "nobody uses it any more")
	c = consume(t, conn, func(o *stream.ConsumeOptions) { *o = group3 })
	require.Eventually(t, func() bool { return conn.ConsumerDrift(t.Context(), group3) == nil }, 20*time.Second, 10*time.Millisecond)
	c.stop(t)
}

package stream_test

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// grouped is a bundle whose connection goes through a proxy and counts.
type grouped struct {
	*bundle
	proxy    *devtest.Proxy
	registry *prometheus.Registry
}

func setupGrouped(t *testing.T, change ...func(*stream.Config)) *grouped {
	t.Helper()
	return groupedAt(t, devtest.NATS(t), change...)
}

func groupedAt(t *testing.T, url string, change ...func(*stream.Config)) *grouped {
	t.Helper()
	g := &grouped{bundle: &bundle{url: url}, registry: prometheus.NewRegistry()}
	g.proxy = devtest.NewProxy(t, host(t, g.url))
	conn, err := stream.Connect(t.Context(), stream.Options{
		Config: config("nats://"+g.proxy.Addr(), change...), Name: t.Name(), Registerer: g.registry,
	})
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	require.NoError(t, conn.EnsureTopology(t.Context()))
	g.conn, g.js = conn, raw(t, g.url)
	return g
}

// batches is how many atomic batches ended so.
func (g *grouped) batches(t *testing.T, outcome string) float64 {
	t.Helper()
	families, err := g.registry.Gather()
	require.NoError(t, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "ledgerfeed_stream_batches_total" && m.GetLabel()[0].GetValue() == outcome {
				return m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("no counter for %s", outcome)
	return 0
}

// ids counts what the stream holds, by message id.
func (g *grouped) ids(t *testing.T) map[string]int {
	t.Helper()
	s, err := g.js.Stream(t.Context(), "LF_EVENTS")
	require.NoError(t, err)
	state := s.CachedInfo().State
	found := map[string]int{}
	for seq := state.FirstSeq; seq <= state.LastSeq && state.Msgs > 0; seq++ {
		m, err := s.GetMsg(t.Context(), seq)
		require.NoError(t, err)
		found[m.Header.Get("Nats-Msg-Id")]++
	}
	return found
}

// all publishes at the same time and returns what became of each.
func (g *grouped) all(ctx context.Context, n int, envs func(i int) []*ledgerfeedv1.Envelope) []error {
	errs := make([]error, n)
	var callers sync.WaitGroup
	for i := range n {
		callers.Go(func() { errs[i] = g.conn.Publish(ctx, envs(i)...) })
	}
	callers.Wait()
	return errs
}

func pair(i int) []*ledgerfeedv1.Envelope {
	return []*ledgerfeedv1.Envelope{env("1", i), env("2", i)}
}

func requireNone(t *testing.T, errs []error) {
	t.Helper()
	for i, err := range errs {
		require.NoError(t, err, i)
	}
}

func requireEachOnce(t *testing.T, found map[string]int, n int) {
	t.Helper()
	require.Len(t, found, 2*n)
	for i := range n {
		for _, e := range pair(i) {
			require.Equal(t, 1, found[e.Id], "envelope %s of publish %d", e.Id, i)
		}
	}
}

func TestGroup_ConcurrentPublishesShareBatches(t *testing.T) {
	g := setupGrouped(t)
	requireNone(t, g.all(t.Context(), 400, pair))
	requireEachOnce(t, g.ids(t), 400)
	require.Positive(t, g.batches(t, "committed"))
	require.Less(t, g.batches(t, "committed"), 80.0, "800 messages in batches of more than ten")
	require.Zero(t, g.batches(t, "refused")+g.batches(t, "duplicate")+g.batches(t, "unanswered"))
}

func TestGroup_AloneGoesOutAtOnce(t *testing.T) {
	g := setupGrouped(t)
	for i := range 20 {
		require.NoError(t, g.conn.Publish(t.Context(), pair(i)...))
	}
	requireEachOnce(t, g.ids(t), 20)
	require.Zero(t, g.batches(t, "committed"))
}

func TestGroup_ManyMessagesOfOneCallAreMoreThanABatch(t *testing.T) {
	g := setupGrouped(t)
	require.NoError(t, g.conn.Publish(t.Context(), many(1200)...))
	requireEachOnce(t, g.ids(t), 1200)
}

// One message that is there already refuses a whole batch.
func TestGroup_DuplicatesLoseAndDoubleNothing(t *testing.T) {
	g := setupGrouped(t)
	for _, i := range []int{3, 77, 199} {
		require.NoError(t, g.conn.Publish(t.Context(), pair(i)...))
	}
	requireNone(t, g.all(t.Context(), 200, pair))
	requireEachOnce(t, g.ids(t), 200)
	require.Positive(t, g.batches(t, "duplicate"))
	requireNone(t, g.all(t.Context(), 200, pair))
	requireEachOnce(t, g.ids(t), 200)
}

func TestGroup_TheSameAtTheSameMomentIsStoredOnce(t *testing.T) {
	g := setupGrouped(t)
	requireNone(t, g.all(t.Context(), 300, func(i int) []*ledgerfeedv1.Envelope { return pair(i % 50) }))
	requireEachOnce(t, g.ids(t), 50)
}

// What the server never takes must not take the others with it.
func TestGroup_TooLargeFailsAlone(t *testing.T) {
	server, err := devserver.StartNATS(devserver.NATSOptions{Dir: t.TempDir(), MaxPayload: 1 << 20})
	require.NoError(t, err)
	t.Cleanup(server.Close)
	g := groupedAt(t, server.URL())
	errs := g.all(t.Context(), 100, func(i int) []*ledgerfeedv1.Envelope {
		envs := pair(i)
		if i%20 == 10 {
			envs[0].Events[0].Id = strings.Repeat("x", 1<<20)
		}
		return envs
	})
	for i := 10; i < 100; i += 20 {
		require.ErrorIs(t, errs[i], stream.ErrTooLarge)
		errs[i] = nil
	}
	requireNone(t, errs)
	require.Len(t, g.ids(t), 195)
}

func TestGroup_FullStreamTakesWhatFits(t *testing.T) {
	g := setupGrouped(t, func(c *stream.Config) { c.EventsMaxBytes = 1 << 20 })
	envs := func(i int) []*ledgerfeedv1.Envelope {
		e := env("1", i)
		e.Events[0].Id = strings.Repeat("x", 16<<10)
		return []*ledgerfeedv1.Envelope{e}
	}
	errs := g.all(t.Context(), 120, envs)
	found := g.ids(t)
	full := 0
	for i, err := range errs {
		if err == nil {
			require.Equal(t, 1, found[env("1", i).Id])
			continue
		}
		require.ErrorIs(t, err, stream.ErrFull)
		full++
	}
	require.Positive(t, full)
	require.Len(t, found, 120-full)

	s, err := g.js.Stream(t.Context(), "LF_EVENTS")
	require.NoError(t, err)
	require.NoError(t, s.Purge(t.Context()))
	require.NoError(t, g.conn.Publish(t.Context(), pair(1000)...))
}

// I1: the answer to the batch is lost. Nobody may be told that it is stored.
func TestGroup_WithoutTheAckNothingIsDurable(t *testing.T) {
	g := setupGrouped(t)
	g.proxy.Mute()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, g.conn.Publish(ctx, many(50)...), stream.ErrNotDurable)
	require.Len(t, g.ids(t), 100, "it is there, but nobody said so")
	for i, err := range g.all(ctx, 50, pair) {
		require.ErrorIs(t, err, stream.ErrNotDurable, i)
	}
	g.proxy.Unmute()
	requireNone(t, g.all(t.Context(), 100, pair))
	requireEachOnce(t, g.ids(t), 100)
}

// many are the envelopes of n pairs.
func many(n int) (envs []*ledgerfeedv1.Envelope) {
	for i := range n {
		envs = append(envs, pair(i)...)
	}
	return envs
}

// What was gathered does not wait for an answer that cannot come any more: here
// the batch in flight would wait for an hour.
func TestGroup_ABrokenConnectionHoldsNobodyUp(t *testing.T) {
	g := setupGrouped(t, func(c *stream.Config) { c.PublishTimeout = time.Hour })
	g.proxy.Mute()
	done := make(chan error, 1)
	go func() { done <- g.conn.Publish(context.Background(), many(50)...) }()
	require.Eventually(t, func() bool { return len(g.ids(t)) == 100 }, 20*time.Second, 5*time.Millisecond)
	g.proxy.Cut()
	select {
	case err := <-done:
		require.ErrorIs(t, err, stream.ErrNotDurable)
		require.ErrorContains(t, err, "disconnected")
	case <-time.After(20 * time.Second):
		t.Fatal("still waiting for the answer")
	}
	g.proxy.Unmute()
	g.proxy.Restore()
	require.Eventually(t, func() bool { return g.conn.Publish(t.Context(), pair(0)...) == nil }, 20*time.Second, 20*time.Millisecond)
	requireNone(t, g.all(t.Context(), 100, pair))
	requireEachOnce(t, g.ids(t), 100)
}

// A batch in flight does not hold up the end either.
func TestGroup_CloseFailsWhatIsInFlight(t *testing.T) {
	g := setupGrouped(t, func(c *stream.Config) { c.PublishTimeout = time.Hour })
	g.proxy.Mute()
	errs := make(chan error, 2)
	go func() { errs <- g.conn.Publish(context.Background(), many(50)...) }()
	require.Eventually(t, func() bool { return len(g.ids(t)) == 100 }, 20*time.Second, 5*time.Millisecond)
	go func() { errs <- g.conn.Publish(context.Background(), pair(1000)...) }()
	g.conn.Close()
	for range 2 {
		require.ErrorIs(t, <-errs, stream.ErrNotDurable)
	}
}

// I1 and I5 under everything at once: a nil error means stored, whatever else
// happened, and nothing is stored twice.
func TestGroup_NilMeansStoredOnce(t *testing.T) {
	g := setupGrouped(t)
	const publishes = 2000
	acked := make([]bool, publishes)
	var callers sync.WaitGroup
	stop := make(chan struct{})
	var breaker sync.WaitGroup
	breaker.Go(func() {
		for tick := time.NewTicker(60 * time.Millisecond); ; {
			select {
			case <-stop:
				tick.Stop()
				g.proxy.Restore()
				return
			case <-tick.C:
				g.proxy.Cut()
				g.proxy.Restore()
			}
		}
	})
	for worker := range 40 {
		callers.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(worker)))
			for i := worker; i < publishes; i += 40 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+random.IntN(2000))*time.Millisecond)
				acked[i] = g.conn.Publish(ctx, pair(i%(publishes-200))...) == nil
				cancel()
			}
		})
	}
	callers.Wait()
	close(stop)
	breaker.Wait()
	found := g.ids(t)
	stored := 0
	for i, ok := range acked {
		for _, e := range pair(i % (publishes - 200)) {
			require.LessOrEqual(t, found[e.Id], 1, "stored twice")
			if ok {
				require.Equal(t, 1, found[e.Id], "acknowledged but not there")
			}
		}
		if ok {
			stored++
		}
	}
	require.Positive(t, stored)
	t.Logf("%d of %d acknowledged, %v batches", stored, publishes, g.batches(t, "committed"))
}

// A stream of an earlier version learns to take batches; nothing else changes.
func TestGroup_AnOlderStreamIsBroughtUp(t *testing.T) {
	b := setup(t)
	s, err := b.js.Stream(t.Context(), "LF_EVENTS")
	require.NoError(t, err)
	older := s.CachedInfo().Config
	require.True(t, older.AllowAtomicPublish)
	require.NoError(t, b.js.DeleteStream(t.Context(), "LF_EVENTS"))
	older.AllowAtomicPublish = false
	_, err = b.js.CreateStream(t.Context(), older)
	require.NoError(t, err)

	require.NoError(t, b.conn.EnsureTopology(t.Context()))
	s, err = b.js.Stream(t.Context(), "LF_EVENTS")
	require.NoError(t, err)
	older.AllowAtomicPublish = true
	require.Equal(t, older, s.CachedInfo().Config)
}

// Where a sync is shared already, or not waited for, a batch only costs.
func TestGroup_OtherProfilesTakeNoBatches(t *testing.T) {
	g := setupGrouped(t, func(c *stream.Config) { c.Profile = stream.SingleRelaxed })
	requireNone(t, g.all(t.Context(), 200, pair))
	requireEachOnce(t, g.ids(t), 200)
	require.Zero(t, g.batches(t, "committed"))
}

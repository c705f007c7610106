package processor_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
)

// Records that change again and again are read once for many events.
func TestProcessor_ABurstCostsFewCalls(t *testing.T) {
	t.Parallel()
	const records, events = 100, 500
	random := rand.New(rand.NewPCG(1, 1))
	draw := rand.NewZipf(random, 1.1, 1, records-1)
	updates := make([]int, events) // five of each record in the mean
	for i := range updates {
		updates[i] = int(draw.Uint64())
	}
	b := setup(t)
	calls := b.play(updates, 10*time.Millisecond)
	t.Logf("%d events: %d calls", events, calls)
	require.LessOrEqual(t, float64(calls), 0.3*events)
}

// A change now and then costs one call and not more.
func TestProcessor_ATrickleCostsACallAChange(t *testing.T) {
	t.Parallel()
	updates := make([]int, 12)
	for i := range updates {
		updates[i] = i
	}
	b := setup(t)
	calls := b.play(updates, 250*time.Millisecond)
	delivered := 0
	for _, n := range b.a.sizes {
		delivered += n
	}
	require.Equal(t, len(updates), delivered)
	require.LessOrEqual(t, float64(calls), 1.05*float64(delivered))
}

// play changes records one by one, so far apart, with the settings and the limits
// of a real company, and returns what that cost.
func (b *bundle) play(updates []int, apart time.Duration) int {
	b.t.Helper()
	b.config.CoalesceWindow = processor.DefaultProcessorConfig().CoalesceWindow
	client, err := qbo.New(qbo.Options{BaseURL: b.api.URL, Tokens: b.connections, Limiter: b.store.Limiter(state.DefaultLimits())})
	require.NoError(b.t, err)
	b.client = client
	b.sim.SetFaults(qbosim.Faults{Latency: 20 * time.Millisecond})
	b.sim.SetWebhookURL("") // nobody is told of their creation
	var refs []qbosim.Ref
	for range 100 {
		refs = append(refs, b.create("Invoice", nil))
	}
	b.sim.SetWebhookURL(b.hooks.server.URL)
	b.clock.Advance(time.Minute)
	p := b.start()
	told := map[qbosim.Ref]bool{}
	for i, tick := 0, time.NewTicker(apart); i < len(updates); i++ {
		<-tick.C
		b.clock.Advance(apart)
		ref := refs[updates[i]]
		require.NoError(b.t, b.sim.Update(ref, nil))
		b.publish(b.webhooks()...)
		told[ref] = true
	}
	b.settle(p)
	for ref := range told {
		require.Equal(b.t, latest(b.t, b, ref).Version, b.a.last(b.t, ref).GetVersion(), "%v", ref)
	}
	return b.calls()
}

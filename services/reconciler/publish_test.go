package reconciler_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/reconciler"
)

func (b *bundle) jetStream(t *testing.T) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(b.natsURL)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	return js
}

// A scan can be made again; the sender of a webhook gives up after a while.
func TestScan_LeavesTheLastQuarterOfTheStreamToWebhooks(t *testing.T) {
	t.Parallel()
	b, r := loaded(t, 5)
	b.feed.stop()
	js := b.jetStream(t)
	const room = 1 << 20
	s, err := js.Stream(t.Context(), stream.EventStream)
	require.NoError(t, err)
	c := s.CachedInfo().Config
	c.MaxBytes = room
	_, err = js.UpdateStream(t.Context(), c)
	require.NoError(t, err)
	filler, err := js.Publish(t.Context(), "lf.event.other", make([]byte, room/5*4))
	require.NoError(t, err)

	missed := b.create("Invoice")
	b.clock.Advance(time.Hour)
	report := b.request(r, reconciler.Request{Realms: []string{realm}})
	require.ErrorContains(t, report.Errors[realm], "the rest is reserved for webhooks")
	info, err := s.Info(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, info.State.Msgs)

	require.NoError(t, s.DeleteMsg(t.Context(), filler.Sequence))
	b.feed.start()
	b.reconcile(r)
	require.Positive(t, b.feed.version(missed))
	b.requireEqual()
}

// Each batch of a scan would wait for the stream of gaps again.
func TestScan_AStreamOfGapsThatHasFailedIsLeftAloneForAMinute(t *testing.T) {
	t.Parallel()
	b, r := loaded(t, 5)
	s, err := b.jetStream(t).Stream(t.Context(), stream.GapStream)
	require.NoError(t, err)
	accept := func(most int32) {
		c := s.CachedInfo().Config
		c.MaxMsgSize = most
		_, err := b.jetStream(t).UpdateStream(t.Context(), c)
		require.NoError(t, err)
	}
	miss := func(after time.Duration) uint64 {
		b.clock.Advance(after)
		missed := b.create("Invoice")
		b.reconcile(r)
		require.Positive(t, b.feed.version(missed), "the repair goes on")
		info, err := s.Info(t.Context())
		require.NoError(t, err)
		return info.State.Msgs
	}
	require.EqualValues(t, 1, miss(time.Hour))
	accept(1)
	require.EqualValues(t, 1, miss(time.Hour))
	accept(-1)
	require.EqualValues(t, 1, miss(time.Second), "it is not asked yet")
	require.EqualValues(t, 2, miss(time.Minute))

	gaps, err := b.store.Gaps(t.Context(), realm, 100)
	require.NoError(t, err)
	require.Len(t, gaps, 4, "the ledger has all of them")
}

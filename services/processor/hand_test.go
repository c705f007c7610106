package processor_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/processor"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// I9: a replica whose sink is stuck takes what there is room for, and no more; the
// rest goes to one that works.
func TestProcessor_TakesNoMoreThanThereIsRoomFor(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.config.MaxInHand, b.config.WriteTimeout = 1<<20, time.Minute
	release := make(chan struct{})
	free := sync.OnceFunc(func() { close(release) })
	defer free()
	b.a.misbehave(func(context.Context, []*ledgerfeedv1.Change) error {
		<-release
		return nil
	})
	// Each weighs 5 KiB and twice its size at least: some 180 fill the room.
	const records = 1000
	for range records {
		b.create("Bill", nil)
		b.publish(b.webhooks()...)
	}
	stuck := b.start()
	require.Eventually(t, func() bool { return b.metric("ledgerfeed_processor_messages_in_hand") > 150 }, patient, time.Millisecond)
	registry := b.registry

	works := newMemory("a")
	o := b.options()
	o.Sinks = []processor.Sink{works, newMemory("b")}
	second := b.run(o)
	require.Eventually(t, func() bool { return works.count() >= records/4 }, patient, time.Millisecond, "the other replica is given the rest")
	b.registry = registry
	require.LessOrEqual(t, b.metric("ledgerfeed_processor_messages_in_hand"), 204.0)
	free()
	b.settle(stuck)
	b.settle(second)
	all := map[string]bool{}
	for _, m := range []*memory{b.a, works} {
		for ref := range m.all() {
			all[ref.ID] = true
		}
	}
	require.Len(t, all, records)
	lag, err := b.conn.Lag(t.Context(), stream.Events, "processor")
	require.NoError(t, err)
	require.Zero(t, lag.Stored)
}

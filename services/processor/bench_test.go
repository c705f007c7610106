package processor_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// BenchmarkProcessor_Deliver takes events from the stream to two sinks in memory,
// over a broker and a Redis in this process and the simulated QuickBooks. fresh
// is of records that were not delivered yet, covered of those that were.
func BenchmarkProcessor_Deliver(b *testing.B) {
	const records = 2000
	for _, size := range []int{1, 20} {
		b.Run(fmt.Sprintf("fresh/events=%d", size), func(b *testing.B) { benchmark(b, records, size, true) })
		b.Run(fmt.Sprintf("covered/events=%d", size), func(b *testing.B) { benchmark(b, records, size, false) })
	}
}

func benchmark(b *testing.B, records, size int, fresh bool) {
	w := setup(b)
	events := make([]*ledgerfeedv1.Event, records)
	for i := range events {
		ref := w.create("Bill", nil)
		events[i] = &ledgerfeedv1.Event{Id: fmt.Sprint(i), Entity: "Bill", EntityId: ref.ID, Operation: updated}
	}
	w.webhooks()
	p := w.start()
	round := 0
	publish := func() {
		round++
		w.clock.Advance(time.Minute)
		at := timestamppb.New(w.clock.Now())
		for i, e := range events {
			if fresh {
				require.NoError(b, w.sim.Update(refOf(&ledgerfeedv1.Change{RealmId: realm, Entity: "Bill", EntityId: e.GetEntityId()}), nil))
			}
			if fresh || round == 1 {
				events[i].OccurredAt = at
			}
		}
		w.clock.Advance(time.Second)
		w.webhooks()
		for i := 0; i < records; i += size {
			w.publish(envelope.New(fromWebhook, realm, fmt.Sprintf("%d/%d", round, i), events[i:i+size], envelope.Meta{ReceivedAt: w.clock.Now()})...)
		}
	}
	publish()
	w.settle(p)
	b.ReportAllocs()
	var busy time.Duration
	for b.Loop() {
		b.StopTimer()
		p.stop() // all of it is on the stream before the clock starts
		publish()
		begun := time.Now()
		b.StartTimer()
		p = w.start()
		w.settle(p)
		busy += time.Since(begun)
	}
	b.ReportMetric(float64(b.N*records)/busy.Seconds(), "events/s")
}

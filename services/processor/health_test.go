package processor_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// A sink that is down says why: in one line of the log, to the tools, in the metrics and
// in /readyz. What fails meanwhile is counted.
func TestHealth_ASinkThatIsDownSaysWhy(t *testing.T) {
	t.Parallel()
	b := setup(t)
	core, logged := observer.New(zap.InfoLevel)
	o := b.options()
	o.Logger = zap.New(core)
	readOnly := sink.Because("SQLSTATE 25006", errors.New("cannot execute INSERT in a read-only transaction"))
	b.b.misbehave(func(context.Context, []*ledgerfeedv1.Change) error { return readOnly })
	p := b.run(o)
	invoice := b.create("Invoice", nil)
	b.publish(b.webhooks()...)
	require.Eventually(t, func() bool {
		all, err := b.store.SinkTroubles(t.Context(), "b")
		return err == nil && len(all) == 1 && all[0].Failures >= 3
	}, patient, 10*time.Millisecond)
	all, err := b.store.SinkTroubles(t.Context(), "b")
	require.NoError(t, err)
	require.Equal(t, readOnly.Error(), all[0].Error)
	require.False(t, all[0].Since.IsZero() || all[0].Last.Before(all[0].Since) || all[0].Next.Before(all[0].Last))
	require.Contains(t, p.Health()["sink b"], readOnly.Error())
	n, err := testutil.GatherAndCount(b.registry, "ledgerfeed_processor_sink_failing")
	require.NoError(t, err)
	require.Equal(t, 1, n)
	down := logged.FilterMessage("sink is down").All()
	require.Len(t, down, 1, "once")
	require.Equal(t, "SQLSTATE 25006", down[0].ContextMap()["reason"])
	require.Equal(t, readOnly.Error(), down[0].ContextMap()["error"])

	// For another reason by now.
	b.b.misbehave(func(context.Context, []*ledgerfeedv1.Change) error { return context.DeadlineExceeded })
	require.Eventually(t, func() bool {
		b.create("Invoice", nil)
		b.publish(b.webhooks()...)
		return logged.FilterMessage("sink is down").Len() == 2
	}, patient, 200*time.Millisecond)

	b.b.misbehave(nil)
	b.settle(p)
	require.Len(t, b.b.of(invoice), 1)
	require.Equal(t, 1, logged.FilterMessage("sink is back").Len())
	require.Empty(t, p.Health())
	require.Eventually(t, func() bool {
		all, err := b.store.SinkTroubles(t.Context(), "b")
		return err == nil && len(all) == 0
	}, patient, 10*time.Millisecond)
}

// A sink that refuses all records has a fault of its own: few become dead letters, the
// others wait and are delivered.
func TestHealth_ASinkThatRefusesAllIsDown(t *testing.T) {
	t.Parallel()
	for name, refuse := range map[string]func([]*ledgerfeedv1.Change, error) error{
		"as a whole": func(_ []*ledgerfeedv1.Change, err error) error { return err },
		"one by one": func(changes []*ledgerfeedv1.Change, err error) error {
			errs := make([]error, len(changes))
			for i := range errs {
				errs[i] = err
			}
			return sink.Partial(errs)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			no := stream.Permanent(stream.ReasonSinkRefused, errors.New("invalid input syntax for type json"))
			b.b.misbehave(func(_ context.Context, changes []*ledgerfeedv1.Change) error { return refuse(changes, no) })
			p := b.start()
			var all []qbosim.Ref
			for i := range 60 {
				all = append(all, b.create("Invoice", map[string]any{"DocNumber": fmt.Sprint(i)}))
			}
			b.publish(b.webhooks()...)
			require.Eventually(t, func() bool { return p.Health()["sink b"] != "" }, patient, 10*time.Millisecond)
			require.Contains(t, p.Health()["sink b"], "more than 20 records in a row are refused: invalid input syntax")
			require.LessOrEqual(t, p.Stats().Dead, int64(20))

			b.b.misbehave(nil)
			b.settle(p)
			delivered := 0
			for _, ref := range all {
				require.NotEmpty(t, b.a.of(ref), "the other sink has it")
				if len(b.b.of(ref)) > 0 {
					delivered++
				}
			}
			require.GreaterOrEqual(t, delivered, len(all)-20)
			require.LessOrEqual(t, p.Stats().Dead, int64(20))
		})
	}
}

// Single bad records among good ones are refused as before, however many there are.
func TestHealth_BadRecordsAmongGoodOnesAreRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.b.misbehave(func(_ context.Context, changes []*ledgerfeedv1.Change) error {
		for _, c := range changes {
			if c.GetEntity() == "Bill" {
				return stream.Permanent(stream.ReasonSinkRefused, errors.New("a constraint"))
			}
		}
		return nil
	})
	p := b.start()
	const bad = 30
	for range bad {
		bill := b.create("Bill", nil)
		invoice := b.create("Invoice", nil)
		b.deliver(p)
		b.settle(p)
		require.Empty(t, b.b.of(bill))
		require.Len(t, b.b.of(invoice), 1)
	}
	require.Equal(t, int64(bad), p.Stats().Dead)
	require.Empty(t, p.Health())
}

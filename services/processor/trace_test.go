package processor_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// A delivery goes on in the trace of the webhook that told of it, step by step.
// Those that were read together are in one of the traces and name the others.
func TestProcessor_ContinuesTheTracesOfItsEnvelopes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	recorder := tracetest.NewSpanRecorder()
	provider := telemetry.NewTracerProvider(recorder, 0, "test")
	t.Cleanup(func() { require.NoError(t, provider.Shutdown(context.Background())) })
	o := b.options()
	o.Tracer = provider.Tracer("test")
	var envs []*ledgerfeedv1.Envelope
	for range 3 {
		b.create("Invoice", nil)
		envs = append(envs, b.webhooks()...)
	}
	// The first is not recorded by who began it: the others are, all the same.
	for i, e := range envs {
		e.Traceparent = fmt.Sprintf("00-%032x-%016x-%02d", i+1, i+1, min(i, 1))
	}
	require.Len(t, envs, 3)
	b.publish(envs...)
	b.settle(b.run(o))

	traces, steps := map[string]bool{}, map[string]bool{}
	var batches []trace.ReadOnlySpan
	for _, s := range recorder.Ended() {
		if s.Name() == "deliver" {
			batches = append(batches, s)
			traces[s.Parent().TraceID().String()] = true
			for _, l := range s.Links() {
				traces[l.SpanContext.TraceID().String()] = true
			}
		}
	}
	require.NotEmpty(t, batches)
	for _, s := range recorder.Ended() {
		if s.Parent().SpanID() == batches[0].SpanContext().SpanID() {
			steps[s.Name()] = true
		}
	}
	for i := 1; i < len(envs); i++ {
		require.True(t, traces[fmt.Sprintf("%032x", i+1)], i)
	}
	for _, want := range []string{"dedupe", "hydrate", "write", "mark"} {
		require.True(t, steps[want], want)
	}
}

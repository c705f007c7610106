package reconciler_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
	"github.com/ledgerfeed/ledgerfeed/services/reconciler"
)

// A scan is a trace, and what it publishes is delivered in it.
func TestReconciler_WhatAScanFindsIsDeliveredInItsTrace(t *testing.T) {
	t.Parallel()
	b, _ := loaded(t, 10)
	b.create("Invoice")
	b.clock.Advance(time.Hour)
	recorder := tracetest.NewSpanRecorder()
	provider := telemetry.NewTracerProvider(recorder, 1, "test")
	t.Cleanup(func() { require.NoError(t, provider.Shutdown(context.Background())) })
	before := len(b.feed.envelopes)
	r, err := reconciler.New(reconciler.Options{
		Config: b.config, Stream: b.conn, State: b.store, QBO: b.client, Connections: b.connections,
		Logger: b.log, Now: b.clock.Now, Tracer: provider.Tracer("test"),
	})
	require.NoError(t, err)
	b.reconcile(r)

	spans := recorder.Ended()
	require.Len(t, spans, 2)
	publish, scan := spans[0], spans[1]
	require.Equal(t, "publish LF_EVENTS", publish.Name())
	require.Equal(t, "scan", scan.Name())
	require.Equal(t, scan.SpanContext().SpanID(), publish.Parent().SpanID())
	b.feed.mu.Lock()
	defer b.feed.mu.Unlock()
	require.Len(t, b.feed.envelopes, before+1)
	parent := telemetry.Traceparent(telemetry.WithTraceparent(t.Context(), b.feed.envelopes[before].GetTraceparent(), ""))
	require.Contains(t, parent, publish.SpanContext().TraceID().String()+"-"+publish.SpanContext().SpanID().String())
}

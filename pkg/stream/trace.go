package stream

import (
	"context"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// headerTrace carries the W3C trace context for whoever reads the stream without
// reading envelopes. The server looks through the headers in any case, and makes
// nothing of this one unless the account has a destination for message traces
// (msg_trace in its configuration); then it reports what it does with a message
// whose trace is recorded. Lower case, as the W3C and the server's pages have it.
const headerTrace = "traceparent"

// traced is m in the trace of env.
func traced(m *nats.Msg, env *ledgerfeedv1.Envelope) *nats.Msg {
	if t := env.GetTraceparent(); t != "" {
		m.Header.Set(headerTrace, t)
	}
	return m
}

// PublishTraced publishes envelopes to the event stream in a span for the wait for the
// broker. The span is what consumers find in the envelopes, and their parent.
func PublishTraced(ctx context.Context, tracer trace.Tracer, envs []*ledgerfeedv1.Envelope, publish func(context.Context, []*ledgerfeedv1.Envelope) error) error {
	ctx, span := tracer.Start(ctx, "publish "+EventStream, trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
		attribute.String("messaging.system", "nats"), attribute.String("messaging.destination.name", EventStream),
		attribute.Int("messaging.batch.message_count", len(envs))))
	defer span.End()
	parent := telemetry.Traceparent(ctx)
	for _, e := range envs {
		e.Traceparent = parent
	}
	err := publish(ctx, envs)
	if err != nil {
		span.SetStatus(codes.Error, "no acknowledgement")
	}
	return err
}

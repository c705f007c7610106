package reconciler

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// span is the scan of a realm, a trace of its own: what is delivered because of it
// goes on in it.
func (r *Reconciler) span(ctx context.Context, realm string, o order) (_ context.Context, end func(outcome)) {
	if r.tracer == nil {
		return ctx, func(outcome) {}
	}
	ctx, span := r.tracer.Start(ctx, "scan", trace.WithAttributes(
		attribute.String("ledgerfeed.realm_id", realm), attribute.StringSlice("ledgerfeed.entities", o.entities), attribute.Bool("ledgerfeed.load", o.load)))
	return ctx, func(out outcome) {
		span.SetAttributes(attribute.Int("ledgerfeed.calls", out.calls), attribute.Int("ledgerfeed.records", out.items),
			attribute.Int("ledgerfeed.missing", out.missingCDC+out.missingQuery), attribute.StringSlice("ledgerfeed.incomplete", out.incomplete))
		if out.err != nil {
			span.SetStatus(codes.Error, out.err.Error())
		}
		span.End()
	}
}

// publishTraced is deliver with a span for the wait for the broker, which is the
// parent of whatever is delivered.
func (s *scan) publishTraced(ctx context.Context, envs []*ledgerfeedv1.Envelope) error {
	if s.r.tracer == nil {
		return s.deliver(ctx, envs)
	}
	ctx, span := s.r.tracer.Start(ctx, "publish "+stream.EventStream, trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
		attribute.String("messaging.system", "nats"), attribute.String("messaging.destination.name", stream.EventStream),
		attribute.Int("messaging.batch.message_count", len(envs))))
	defer span.End()
	for _, e := range envs {
		e.Traceparent = telemetry.Traceparent(ctx)
	}
	err := s.deliver(ctx, envs)
	if err != nil {
		span.SetStatus(codes.Error, "no acknowledgement")
	}
	return err
}

package ingress

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// span is the work on a signed request, in the trace that a proxy in front began
// or in one of its own. It sets the request's trace: that of the span, or without
// a tracer what came with the request.
func (s *Server) span(ctx context.Context, req *http.Request, r *request) (_ context.Context, end func(error)) {
	r.trace = traceparent(req.Header)
	if s.tracer == nil {
		return ctx, func(error) {}
	}
	ctx = telemetry.WithTraceparent(ctx, r.trace, req.Header.Get("Tracestate"))
	ctx, span := s.tracer.Start(ctx, "POST /webhooks/{app}", trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(r.began), trace.WithAttributes(
		attribute.String("ledgerfeed.app", r.app.name), attribute.String("intuit.tid", r.tid), attribute.Int("http.request.body.size", r.bytes)))
	r.trace = telemetry.Traceparent(ctx)
	return ctx, func(err error) {
		status := http.StatusOK
		if err != nil {
			status = http.StatusServiceUnavailable
			span.SetStatus(codes.Error, "not stored")
		}
		span.SetAttributes(attribute.Int("http.response.status_code", status), attribute.Int("ledgerfeed.events", r.tally.events))
		span.End()
	}
}

// publishTraced is the publisher's Publish, with a span for the wait for the
// broker.
func (s *Server) publishTraced(ctx context.Context, envs []*ledgerfeedv1.Envelope) error {
	if s.tracer == nil {
		return s.publisher.Publish(ctx, envs...)
	}
	return stream.PublishTraced(ctx, s.tracer, envs, func(ctx context.Context, envs []*ledgerfeedv1.Envelope) error {
		return s.publisher.Publish(ctx, envs...)
	})
}

package ingress

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// span is the work on a signed request, in the trace that a proxy in front began
// or in one of its own. parent is the trace context for the stream: that of the
// span, or without a tracer what came with the request.
func (s *Server) span(ctx context.Context, req *http.Request, r *request) (_ context.Context, parent string, end func(error)) {
	parent = traceparent(req.Header)
	if s.tracer == nil {
		return ctx, parent, func(error) {}
	}
	ctx = telemetry.WithTraceparent(ctx, parent, req.Header.Get("Tracestate"))
	ctx, span := s.tracer.Start(ctx, "POST /webhooks/{app}", trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(r.began), trace.WithAttributes(
		attribute.String("ledgerfeed.app", r.app.name), attribute.String("intuit.tid", r.tid), attribute.Int("http.request.body.size", r.bytes)))
	return ctx, telemetry.Traceparent(ctx), func(err error) {
		status := http.StatusOK
		if err != nil {
			status = http.StatusServiceUnavailable
			span.SetStatus(codes.Error, "not stored")
		}
		span.SetAttributes(attribute.Int("http.response.status_code", status), attribute.Int("ledgerfeed.events", r.tally.events))
		span.End()
	}
}

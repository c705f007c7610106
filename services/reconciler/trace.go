package reconciler

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
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

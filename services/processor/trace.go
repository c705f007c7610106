package processor

import (
	"context"
	"slices"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// span is the work on a batch. A batch is of many messages, and so of many traces:
// it is in the first that is recorded, and names the others as links.
func (p *Processor) span(ctx context.Context, b *batch) (_ context.Context, end func()) {
	if p.tracer == nil {
		return ctx, func() {}
	}
	parent, links := b.traces()
	ctx = trace.ContextWithRemoteSpanContext(ctx, parent)
	ctx, span := p.tracer.Start(ctx, "deliver", trace.WithSpanKind(trace.SpanKindConsumer), trace.WithLinks(links...), trace.WithAttributes(
		attribute.String("ledgerfeed.realm_id", b.realm), attribute.StringSlice("ledgerfeed.entities", b.entities()), attribute.Int("ledgerfeed.records", len(b.all))))
	return ctx, func() {
		failed := b.failures()
		span.SetAttributes(attribute.Int("ledgerfeed.records_failed", failed))
		if failed > 0 {
			span.SetStatus(codes.Error, "not all delivered")
		}
		span.End()
	}
}

// entities are the entity types of the batch.
func (b *batch) entities() (names []string) {
	for _, n := range b.lanes {
		names = append(names, n.info.Name)
	}
	slices.Sort(names)
	return names
}

// traced runs a step in a span of its own.
func (p *Processor) traced(ctx context.Context, b *batch, s step) error {
	if p.tracer == nil {
		return s.run(ctx, b)
	}
	ctx, span := p.tracer.Start(ctx, s.name, trace.WithAttributes(attribute.Int("ledgerfeed.records", len(b.items))))
	defer span.End()
	err := s.run(ctx, b)
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
	}
	return err
}

// traces are those of the messages of the batch, without repetition.
func (b *batch) traces() (parent trace.SpanContext, links []trace.Link) {
	seen := map[string]bool{}
	for _, it := range b.all {
		for _, u := range it.units {
			t := u.from.env.GetTraceparent()
			if t == "" || seen[t] {
				continue
			}
			seen[t] = true
			c := trace.SpanContextFromContext(telemetry.WithTraceparent(context.Background(), t, ""))
			if c.IsSampled() && !parent.IsSampled() {
				parent, c = c, parent
			}
			switch {
			case !c.IsValid():
			case !parent.IsValid():
				parent = c
			default:
				links = append(links, trace.Link{SpanContext: c})
			}
		}
	}
	return parent, links
}

// failures is how many records did not get to every sink. Call it before finish.
func (b *batch) failures() (n int) {
	for _, it := range b.all {
		if it.hasFailed() {
			n++
		}
	}
	return n
}

func (it *item) hasFailed() bool {
	for _, err := range it.failed {
		if err != nil {
			return true
		}
	}
	for _, u := range it.units {
		if u.err != nil {
			return true
		}
	}
	return false
}

package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// TraceConfig says where traces go and how many.
type TraceConfig struct {
	Endpoint string        `koanf:"endpoint" doc:"OTLP/HTTP endpoint for traces, such as http://collector:4318; empty for none. Put credentials in trace.headers."`
	Headers  secret.String `koanf:"headers" doc:"Headers for the trace endpoint: NAME=VALUE, comma-separated."`
	Sample   float64       `koanf:"sample" doc:"Share of traces started here to send, 0 to 1; traces started elsewhere keep their own decision."`
}

// DefaultTraceConfig sends nothing.
func DefaultTraceConfig() TraceConfig { return TraceConfig{Sample: 0.01} }

// Validate names the field and the value that is wrong. It never shows a header.
func (c TraceConfig) Validate() error {
	var errs []error
	errs = append(errs, c.checkEndpoint())
	if !(c.Sample >= 0 && c.Sample <= 1) { // NaN too
		errs = append(errs, fmt.Errorf("trace.sample is %v, want 0 to 1", c.Sample))
	}
	if _, err := c.headers(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (c TraceConfig) checkEndpoint() error {
	if c.Endpoint == "" {
		return nil
	}
	u, err := url.Parse(c.Endpoint)
	switch {
	case strings.Contains(c.Endpoint, "@"): // before it is shown
		return errors.New("trace.endpoint has a user or a password in it: give them in trace.headers")
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("trace.endpoint is %q, want http://HOST:4318 or https://…", c.Endpoint)
	}
	return nil
}

// url is the endpoint with OTLP's usual path where it has none of its own.
func (c TraceConfig) url() string {
	if u, err := url.Parse(c.Endpoint); err == nil && strings.Trim(u.Path, "/") == "" {
		return u.JoinPath("v1/traces").String()
	}
	return c.Endpoint
}

func (c TraceConfig) headers() (map[string]string, error) {
	headers := map[string]string{}
	for pair := range strings.SplitSeq(c.Headers.Reveal(), ",") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		name, value, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, errors.New("trace.headers: want NAME=VALUE, several separated by commas")
		}
		headers[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	return headers, nil
}

// Tracing hands out tracers. Without an endpoint they record nothing.
type Tracing struct {
	provider *sdktrace.TracerProvider
	log      *zap.Logger
}

// NewTracing starts sending the spans of the tracers it hands out, in the
// background, to the endpoint of c. A collector that is away costs spans and a
// line in the log, nothing else. Call Shutdown in the end.
func NewTracing(ctx context.Context, c TraceConfig, service string, log *zap.Logger) (*Tracing, error) {
	t := &Tracing{log: log}
	if c.Endpoint == "" {
		return t, nil
	}
	exporter, err := newExporter(ctx, c, log)
	if err != nil {
		return nil, err
	}
	t.provider = NewTracerProvider(sdktrace.NewBatchSpanProcessor(exporter, sdktrace.WithExportTimeout(exportTimeout)), c.Sample, service)
	return t, nil
}

// NewTracerProvider makes spans for a processor, of a share of the traces that
// begin here. It is for tests and for programs that bring their own exporter.
func NewTracerProvider(processor sdktrace.SpanProcessor, sample float64, service string) *sdktrace.TracerProvider {
	return sdktrace.NewTracerProvider(
		sdktrace.WithSpanProcessor(processor),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(sample))),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", service), attribute.String("service.version", lifecycle.Version()))),
	)
}

// Tracer is nil where nothing is traced, so that a caller can do without the
// cost of a span that nobody gets.
func (t *Tracing) Tracer(name string) trace.Tracer {
	if t.provider == nil {
		return nil
	}
	return t.provider.Tracer("github.com/ledgerfeed/ledgerfeed/" + name)
}

// Shutdown sends what is left, within some seconds: a stop does not wait for a
// collector, nor fail for one.
func (t *Tracing) Shutdown(ctx context.Context) {
	if t.provider == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		t.log.Warn("traces not sent at the stop", Error(err))
	}
}

// Traceparent is the W3C trace context of ctx, or empty.
func Traceparent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier["traceparent"]
}

// WithTraceparent is ctx in the trace that a W3C header names; ctx itself where
// it names none.
func WithTraceparent(ctx context.Context, traceparent, tracestate string) context.Context {
	if traceparent == "" {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": traceparent, "tracestate": tracestate})
}

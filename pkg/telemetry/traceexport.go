package telemetry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.uber.org/zap"
)

const (
	// exportTimeout bounds the sending of a batch with all its tries.
	exportTimeout = 5 * time.Second
	// flushTimeout bounds the stop. The SDK's own bound is 30 seconds, which is all
	// the time that a container is usually given to end.
	flushTimeout = exportTimeout + time.Second
)

// exporter tells of spans that could not be sent, once when that begins and once
// when it is over. The SDK would write each failure to the standard log, with
// what the collector answered: one that repeats our headers puts them there.
type exporter struct {
	sdktrace.SpanExporter
	log  *zap.Logger
	lost int // since spans were last sent
}

func newExporter(ctx context.Context, c TraceConfig, log *zap.Logger) (*exporter, error) {
	headers, err := c.headers()
	if err != nil {
		return nil, err
	}
	// Each goes before the variable of OpenTelemetry that would set the same.
	otlp, err := otlptracehttp.New(ctx,
		otlptracehttp.WithEndpointURL(c.url()), otlptracehttp.WithHeaders(headers), otlptracehttp.WithTimeout(exportTimeout),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{
			Enabled: true, InitialInterval: 500 * time.Millisecond, MaxInterval: 2 * time.Second, MaxElapsedTime: exportTimeout,
		}))
	if err != nil {
		return nil, fmt.Errorf("trace.endpoint: %w", err)
	}
	return &exporter{SpanExporter: otlp, log: log}, nil
}

// ExportSpans is called by one goroutine at a time.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	if err != nil {
		if e.lost == 0 {
			e.log.Warn("traces not sent", Error(withoutAnswer(err)))
		}
		e.lost += len(spans)
		return nil
	}
	if e.lost > 0 {
		e.log.Info("traces sent again", Count(e.lost))
		e.lost = 0
	}
	return nil
}

// withoutAnswer cuts what the collector said out of the exporter's error.
func withoutAnswer(err error) error {
	text, _, _ := strings.Cut(err.Error(), "body: ")
	return errors.New(strings.TrimRight(text, " (:"))
}

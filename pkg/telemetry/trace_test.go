package telemetry_test

import (
	"bytes"
	"io"
	"log"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// collector is one that answers as it is told, and the traces it is sent.
func collector(t *testing.T, answer http.HandlerFunc) (telemetry.TraceConfig, <-chan *http.Request) {
	t.Helper()
	got := make(chan *http.Request, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		got <- r
		if answer != nil {
			answer(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return telemetry.TraceConfig{Endpoint: server.URL, Headers: "authorization=Bearer hunter2", Sample: 1}, got
}

// tracing is shut down with the test's end, if not before.
func tracing(t *testing.T, c telemetry.TraceConfig) (*telemetry.Tracing, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	tr, err := telemetry.NewTracing(t.Context(), c, "test", zap.New(core))
	require.NoError(t, err)
	return tr, logs
}

func work(t *testing.T, tr *telemetry.Tracing, spans int) {
	t.Helper()
	for range spans {
		ctx, span := tr.Tracer("x").Start(t.Context(), "work")
		require.Regexp(t, `^00-[0-9a-f]{32}-[0-9a-f]{16}-01$`, telemetry.Traceparent(ctx))
		span.End()
	}
}

// What the settings say goes before the variables that OpenTelemetry reads.
func TestTracing_SendsToTheCollector(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1/elsewhere")
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-other=1")
	t.Setenv("OTEL_TRACES_SAMPLER", "always_off")
	c, got := collector(t, nil)
	tr, logs := tracing(t, c)
	work(t, tr, 1)
	tr.Shutdown(t.Context())
	r := <-got
	require.Equal(t, "/v1/traces", r.URL.Path)
	require.Equal(t, "Bearer hunter2", r.Header.Get("Authorization"))
	require.Empty(t, r.Header.Get("X-Other"))
	require.Zero(t, logs.Len())
}

// I14: a collector may repeat what it was sent. Nothing of it is written
// anywhere, and a failure is a line, not one for each batch.
func TestTracing_TellsOnceOfWhatCannotBeSent(t *testing.T) {
	var standard bytes.Buffer
	log.SetOutput(&standard)
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	var requests atomic.Int64
	c, _ := collector(t, func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) <= 2 {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, "not you: "+r.Header.Get("Authorization"))
		}
	})
	tr, logs := tracing(t, c)
	work(t, tr, 3*512) // batches of 512
	tr.Shutdown(t.Context())

	lines := logs.AllUntimed()
	require.Len(t, lines, 2)
	require.Equal(t, "traces not sent", lines[0].Message)
	require.Equal(t, zapcore.WarnLevel, lines[0].Level)
	require.Contains(t, lines[0].ContextMap()["error"], "401 Unauthorized")
	require.NotContains(t, lines[0].ContextMap()["error"], "hunter2")
	require.Equal(t, "traces sent again", lines[1].Message)
	require.EqualValues(t, 2*512, lines[1].ContextMap()["count"])
	require.Empty(t, standard.String())
}

// A collector that does not answer, or is busy, holds up the stop for some
// seconds at most.
func TestTracing_AStopDoesNotWaitForTheCollector(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"hangs": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"busy":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _ := collector(t, answer)
			tr, logs := tracing(t, c)
			work(t, tr, 1)
			began := time.Now()
			tr.Shutdown(t.Context())
			require.Less(t, time.Since(began), 20*time.Second) // 5, and 30 without a bound of ours
			require.NotZero(t, logs.Len())
		})
	}
}

func TestTracing_OffCostsNothing(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	tr, _ := tracing(t, telemetry.DefaultTraceConfig())
	require.Nil(t, tr.Tracer("x"))
	require.Empty(t, telemetry.Traceparent(t.Context()))
	tr.Shutdown(t.Context())
}

func TestTraceConfig_NamesWhatIsWrong(t *testing.T) {
	for _, tc := range []struct {
		config telemetry.TraceConfig
		want   string
	}{
		{telemetry.TraceConfig{Endpoint: "collector:4318"}, `trace.endpoint is "collector:4318"`},
		{telemetry.TraceConfig{Endpoint: "ftp://collector"}, "trace.endpoint"},
		{telemetry.TraceConfig{Endpoint: "http://me:hunter2@collector:4318"}, "trace.endpoint has a user or a password"},
		{telemetry.TraceConfig{Sample: 2}, "trace.sample is 2"},
		{telemetry.TraceConfig{Sample: math.NaN()}, "trace.sample is NaN"},
		{telemetry.TraceConfig{Headers: "hunter2"}, "trace.headers"},
	} {
		err := tc.config.Validate()
		require.ErrorContains(t, err, tc.want)
		require.NotContains(t, err.Error(), "hunter2")
	}
	require.NoError(t, telemetry.DefaultTraceConfig().Validate())
}

package telemetry_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

func TestTracing_SendsToTheCollector(t *testing.T) {
	got := make(chan *http.Request, 10)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		got <- r
	}))
	t.Cleanup(collector.Close)
	tracing, err := telemetry.NewTracing(t.Context(), telemetry.TraceConfig{Endpoint: collector.URL, Headers: "authorization=Bearer hunter2", Sample: 1}, "test")
	require.NoError(t, err)
	ctx, span := tracing.Tracer("x").Start(t.Context(), "work")
	require.Regexp(t, `^00-[0-9a-f]{32}-[0-9a-f]{16}-01$`, telemetry.Traceparent(ctx))
	span.End()
	within, done := context.WithTimeout(t.Context(), 20*time.Second)
	defer done()
	require.NoError(t, tracing.Shutdown(within))
	r := <-got
	require.Equal(t, "/v1/traces", r.URL.Path)
	require.Equal(t, "Bearer hunter2", r.Header.Get("Authorization"))
}

func TestTracing_OffCostsNothing(t *testing.T) {
	tracing, err := telemetry.NewTracing(t.Context(), telemetry.DefaultTraceConfig(), "test")
	require.NoError(t, err)
	require.Nil(t, tracing.Tracer("x"))
	require.Empty(t, telemetry.Traceparent(t.Context()))
	require.NoError(t, tracing.Shutdown(t.Context()))
}

func TestTraceConfig_NamesWhatIsWrong(t *testing.T) {
	for want, c := range map[string]telemetry.TraceConfig{
		"trace.endpoint": {Endpoint: "collector:4318"},
		"trace.sample":   {Sample: 2},
		"trace.headers":  {Headers: "hunter2"},
	} {
		err := c.Validate()
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "hunter2")
	}
	require.NoError(t, telemetry.DefaultTraceConfig().Validate())
}

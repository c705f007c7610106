package ingress_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/zap/zapcore"

	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
	"github.com/ledgerfeed/ledgerfeed/services/ingress"
)

// traced makes spans of every request and keeps them.
func traced(t *testing.T) (setting, *tracetest.SpanRecorder) {
	t.Helper()
	spans := tracetest.NewSpanRecorder()
	provider := telemetry.NewTracerProvider(spans, 1, "test")
	t.Cleanup(func() { require.NoError(t, provider.Shutdown(context.Background())) })
	return func(o *ingress.Options) { o.Tracer = provider.Tracer("test") }, spans
}

// The trace that a proxy began goes on in a span of ours, in one for the wait for
// the broker, and from there on the stream.
func TestServer_ContinuesATraceOntoTheStream(t *testing.T) {
	with, spans := traced(t)
	b := setup(t, with)
	req := b.request(event("1", "1"), oldToken)
	req.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	req.Header.Set("Tracestate", "proxy=7")
	req.Header.Set("Intuit-T-Id", "tid-1")
	_, err := b.send(req)
	require.NoError(t, err)

	require.Len(t, spans.Ended(), 2)
	publish, span := spans.Ended()[0], spans.Ended()[1]
	require.Equal(t, "POST /webhooks/{app}", span.Name())
	require.Equal(t, "0af7651916cd43dd8448eb211c80319c", span.SpanContext().TraceID().String())
	require.Equal(t, "b7ad6b7169203331", span.Parent().SpanID().String())
	require.Equal(t, "proxy=7", span.SpanContext().TraceState().String())
	attributes := map[string]string{}
	for _, a := range span.Attributes() {
		attributes[string(a.Key)] = a.Value.String()
	}
	require.Equal(t, "200", attributes["http.response.status_code"])
	require.Equal(t, "demo", attributes["ledgerfeed.app"])
	require.Equal(t, "tid-1", attributes["intuit.tid"])

	require.Equal(t, "publish LF_EVENTS", publish.Name())
	require.Equal(t, span.SpanContext().SpanID(), publish.Parent().SpanID())
	want := "00-0af7651916cd43dd8448eb211c80319c-" + publish.SpanContext().SpanID().String() + "-01"
	require.Equal(t, want, b.takes(1)[0].Traceparent)
	line := b.logs.FilterMessage("notification stored").All()[0].ContextMap()
	require.Contains(t, line["traceparent"], span.SpanContext().TraceID().String())
}

// A trace that whoever began it does not record costs no span, and goes on.
func TestServer_KeepsTheDecisionOfATrace(t *testing.T) {
	with, spans := traced(t)
	b := setup(t, with)
	req := b.request(event("1", "1"), oldToken)
	req.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")
	_, err := b.send(req)
	require.NoError(t, err)
	require.Empty(t, spans.Ended())
	require.Regexp(t, "^00-0af7651916cd43dd8448eb211c80319c-[0-9a-f]{16}-00$", b.takes(1)[0].Traceparent)
}

func TestServer_BeginsATraceWhereThereIsNone(t *testing.T) {
	with, spans := traced(t)
	b := setup(t, with)
	require.Equal(t, 401, b.post(event("1", "1"), "wrong").status)
	require.Empty(t, spans.Ended(), "strangers make no spans")
	require.Equal(t, 200, b.post(event("1", "1"), oldToken).status)
	require.Len(t, spans.Ended(), 2)
	require.True(t, strings.HasPrefix(b.takes(1)[0].Traceparent, "00-"+spans.Ended()[0].SpanContext().TraceID().String()))

	b.proxy.Cut()
	require.Equal(t, 503, b.post(event("1", "2"), oldToken).status)
	require.Len(t, spans.Ended(), 4)
	require.Equal(t, "no acknowledgement", spans.Ended()[2].Status().Description)
	require.Equal(t, "not stored", spans.Ended()[3].Status().Description)
}

// So many lines a second are enough to see that it works; the others are there
// for who asks for debug.
func TestServer_LogsASampleOfWhatIsStored(t *testing.T) {
	b := setup(t, configured(func(c *ingress.IngressConfig) { c.AccessLog = 2 }))
	for range 50 {
		require.Equal(t, 200, b.post(event("1", "1"), oldToken).status)
	}
	lines := b.logs.FilterMessage("notification stored")
	require.Equal(t, 50, lines.Len())
	shown := lines.FilterLevelExact(zapcore.InfoLevel).Len()
	require.GreaterOrEqual(t, shown, 2)
	require.Less(t, shown, 40)
	fields := lines.All()[0].ContextMap()
	require.Equal(t, "stored", fields["outcome"])
	require.Equal(t, "demo", fields["app"])
	require.EqualValues(t, 1, fields["count"])
	require.Contains(t, fields, "took")

	b = setup(t, configured(func(c *ingress.IngressConfig) { c.AccessLog = 0 }))
	require.Equal(t, 200, b.post(event("1", "1"), oldToken).status)
	require.Zero(t, b.logs.FilterLevelExact(zapcore.InfoLevel).FilterMessage("notification stored").Len())
}

// The public port shows nothing of the admin port's.
func TestServer_AdminPathsAreNotPublic(t *testing.T) {
	b := setup(t)
	for _, path := range []string{"/livez", "/readyz", "/metrics", "/debug/pprof/", "/debug/pprof/profile"} {
		resp, err := b.client.Get("http://" + b.server.Addr() + path)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, 404, resp.StatusCode, path)
	}
}

package e2e_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// loadReport is what --json prints.
type loadReport struct {
	Offered, Sent, Answered, Failed int64
	Seconds                         float64
	P99                             float64 `json:"p99_ms"`
	Service                         struct {
		P50 float64 `json:"p50_ms"`
		P99 float64 `json:"p99_ms"`
	}
}

func TestLoad_MeasuresTheAnswers(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if _, verr := webhook.Verify(body, r.Header.Get("intuit-signature"), []secret.String{intuitToken}); err != nil || verr != nil {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	t.Cleanup(s.Close)
	args := []string{"load", "--url", s.URL + "/webhooks/dev", "--rate", "100", "--for", "300ms", "--warmup", "0s"}

	p := start(t, append(args, "--token", intuitToken, "--json")...)
	require.Zero(t, p.code(), p.stderr.String())
	var report loadReport
	require.NoError(t, json.Unmarshal([]byte(p.stdout.String()), &report))
	require.EqualValues(t, 30, report.Answered)
	require.EqualValues(t, 30, report.Offered)
	require.EqualValues(t, 30, report.Sent)
	require.InDelta(t, 0.3, report.Seconds, 1e-6)
	require.Positive(t, report.P99)
	require.Positive(t, report.Service.P50)
	require.LessOrEqual(t, report.Service.P99, report.P99)

	p = start(t, append(args, "--token", "another")...)
	require.Equal(t, 1, p.code(), "answers other than 200 are a failure")
	require.Contains(t, p.stdout.String(), "401")
	require.Contains(t, p.stderr.String(), "30 of 30 requests were not answered 200")
}

func TestLoad_CtrlCEndsItWithWhatWasMeasured(t *testing.T) {
	asked := make(chan struct{}, 1)
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		select {
		case asked <- struct{}{}:
		default:
		}
	}))
	t.Cleanup(s.Close)
	p := start(t, "load", "--url", s.URL, "--rate", "1000", "--for", "1h", "--warmup", "0s", "--json")
	<-asked
	p.signal(syscall.SIGINT)
	require.Zero(t, p.code(), p.stderr.String())
	var report loadReport
	require.NoError(t, json.Unmarshal([]byte(p.stdout.String()), &report))
	require.Positive(t, report.Answered)
	require.Equal(t, report.Offered, report.Answered)
	require.Less(t, report.Seconds, patience.Seconds())
}

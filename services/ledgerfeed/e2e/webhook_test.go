package e2e_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"
)

// What dev posts to an endpoint on this machine verifies with its documented
// secret: the example of docs/examples/inventory is run so.
func TestDev_PostsToAnEndpoint(t *testing.T) {
	t.Parallel()
	verifier, err := standardwebhooks.NewWebhook("whsec_bGVkZ2VyZmVlZC1kZXYtd2ViaG9vay1zZWNyZXQ=")
	require.NoError(t, err)
	got := make(chan error, 1)
	endpoint := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = verifier.Verify(body, r.Header)
		}
		select {
		case got <- err:
		default:
		}
	}))
	t.Cleanup(endpoint.Close)
	p := startDev(t, t.TempDir(), "--sink", "webhook:"+endpoint.URL)
	select {
	case err := <-got:
		require.NoError(t, err)
	case <-time.After(time.Minute):
		t.Fatal("nothing is posted")
	}
	p.waitFor("sink        webhook:" + endpoint.URL)
	p.signal(syscall.SIGINT)
	require.Zero(t, p.code())
}

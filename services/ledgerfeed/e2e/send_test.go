package e2e_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// received is what a stub ingress got.
type received struct {
	header http.Header
	body   []byte
}

// ingress answers every request with status and passes on what it got.
func ingress(t *testing.T, status int) (url string, got <-chan received) {
	t.Helper()
	requests := make(chan received, 10)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		requests <- received{header: r.Header, body: body}
		if status == http.StatusFound {
			w.Header().Set("Location", "/elsewhere")
		}
		http.Error(w, "said the server", status)
	}))
	t.Cleanup(s.Close)
	return s.URL + "/webhooks/dev", requests
}

func TestSend_SignsTheBytesOfTheFile(t *testing.T) {
	want, err := os.ReadFile("testdata/intuit_signed_body.json")
	require.NoError(t, err)
	url, requests := ingress(t, http.StatusOK)
	p := start(t, "send", "--token", intuitToken, "--url", url, "--header", "intuit-t-id: abc", absolute(t, "testdata/intuit_signed_body.json"))

	require.Zero(t, p.code())
	got := <-requests
	require.Regexp(t, `^200 OK in [0-9.]+(µs|ms|s)\n$`, p.stdout.String())
	require.Equal(t, want, got.body)
	require.Equal(t, intuitSignature, got.header.Get("intuit-signature"))
	require.Equal(t, "abc", got.header.Get("intuit-t-id"))
	_, err = webhook.Verify(got.body, got.header.Get("intuit-signature"), []secret.String{intuitToken})
	require.NoError(t, err)
}

func TestSend_SendsAGivenSignatureAsItIs(t *testing.T) {
	url, got := ingress(t, http.StatusOK)
	require.Zero(t, start(t, "send", "--signature", "not base64", "--url", url, absolute(t, "testdata/README.md")).code())
	require.Equal(t, []string{"not base64"}, (<-got).header.Values("intuit-signature"))

	require.Zero(t, start(t, "send", "--signature", "", "--url", url, absolute(t, "testdata/README.md")).code())
	require.Empty(t, (<-got).header.Values("intuit-signature"))
}

func TestSend_AnythingBut200IsAFailure(t *testing.T) {
	for _, status := range []int{http.StatusNoContent, http.StatusFound, http.StatusUnauthorized, http.StatusServiceUnavailable} {
		url, _ := ingress(t, status)
		p := start(t, "send", "--token", "t", "--url", url, absolute(t, "testdata/README.md"))
		require.Equal(t, 1, p.code(), status)
		require.Contains(t, p.stdout.String(), http.StatusText(status))
		require.Contains(t, p.stderr.String(), url)
	}
}

func TestSend_GivesUpAfterTimeout(t *testing.T) {
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	t.Cleanup(s.Close)
	t.Cleanup(func() { close(release) })
	p := start(t, "send", "--token", "t", "--url", s.URL, "--timeout", "100ms", absolute(t, "testdata/README.md"))
	require.Equal(t, 3, p.code())
	require.Contains(t, p.stderr.String(), "no answer within 100ms")
}

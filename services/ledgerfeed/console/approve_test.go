package console_test

import (
	"net/http"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

// What Intuit sent may hold the books of a company: a viewer does not see it, on the page
// or by the API.
func TestDead_OnlyOperatorsSeeRawBodies(t *testing.T) {
	t.Parallel()
	b := setup(t, withTokens)
	for _, body := range []string{`{"secret":"pay slip"}`, "pay slip \xff"} {
		require.NoError(t, b.broker.PublishDead(t.Context(), stream.DeadLetter{Reason: stream.ReasonUnreadable, Detail: "no JSON", Body: []byte(body), At: time.Now()}))
	}
	letters, err := b.broker.DeadLetters(t.Context(), 10)
	require.NoError(t, err)
	require.Len(t, letters, 2)
	for _, letter := range letters {
		path := "/dead/" + strconv.FormatUint(letter.Seq, 10)
		for _, raw := range []string{"pay slip", "70617920736c6970", "cGF5IHNsaX"} { // text, hex, base64
			for _, p := range []string{path, "/api/v1" + path, "/dead", "/api/v1/dead"} {
				resp, body := b.ask(http.MethodGet, p, nil, "Authorization", "Bearer "+viewerToken)
				require.Equal(t, http.StatusOK, resp.StatusCode)
				require.NotContains(t, body, raw, p)
			}
		}
		_, body := b.ask(http.MethodGet, path, nil, "Authorization", "Bearer "+viewerToken)
		require.Contains(t, body, "Only operators see")
		_, body = b.ask(http.MethodGet, "/api/v1"+path, nil, "Authorization", "Bearer "+operatorToken)
		require.Regexp(t, "pay slip|cGF5IHNsaX", body)
	}
}

// A consent that waits is decided by an operator, by the page of the company.
func TestConsole_ConsentsAreApprovedByOperators(t *testing.T) {
	t.Parallel()
	b := setup(t, withTokens)
	const waiting = "9341452777"
	hold := func() {
		t.Helper()
		require.NoError(t, b.connections.Hold(t.Context(), waiting, "books", qbo.Token{Access: "a", Refresh: "r", AccessExpires: time.Now().Add(time.Hour)}))
	}
	hold()
	_, body := b.ask(http.MethodGet, "/realms/"+waiting, nil, "Authorization", "Bearer "+viewerToken)
	require.Contains(t, body, "waits for approval")
	require.NotContains(t, body, "/approve", "a viewer is offered no action")
	for _, verb := range []string{"approve", "reject"} {
		resp, _ := b.ask(http.MethodPost, "/realms/"+waiting+"/"+verb, url.Values{}, "Authorization", "Bearer "+viewerToken)
		require.Equal(t, http.StatusForbidden, resp.StatusCode)
	}
	_, body = b.ask(http.MethodGet, "/realms?state=pending_approval", nil, "Authorization", "Bearer "+operatorToken)
	require.Contains(t, body, waiting)
	_, body = b.ask(http.MethodGet, "/realms/"+waiting, nil, "Authorization", "Bearer "+operatorToken)
	require.Contains(t, body, "/realms/"+waiting+"/approve")

	resp, body := b.ask(http.MethodPost, "/api/v1/realms/"+waiting+"/approve", url.Values{}, "Authorization", "Bearer "+operatorToken)
	require.Equal(t, http.StatusOK, resp.StatusCode, body)
	c, err := b.connections.Get(t.Context(), waiting)
	require.NoError(t, err)
	require.Equal(t, connection.Live, c.State)
	resp, _ = b.ask(http.MethodPost, "/api/v1/realms/"+waiting+"/approve", url.Values{}, "Authorization", "Bearer "+operatorToken)
	require.Equal(t, http.StatusConflict, resp.StatusCode)
	_, body = b.ask(http.MethodGet, "/api/v1/actions", nil, "Authorization", "Bearer "+operatorToken)
	require.Contains(t, body, "approve-realm")
}

package ingress_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zapcore"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/ingress"
)

const (
	toWrongAddress = "signed webhook sent to a wrong address"
	byStranger     = "request with a signature sent to a wrong address"
)

// postTo sends a signed body to a path.
func (b *bundle) postTo(path string, body []byte, token secret.String) answer {
	b.t.Helper()
	req, err := http.NewRequest(http.MethodPost, "http://"+b.server.Addr()+path, bytes.NewReader(body))
	require.NoError(b.t, err)
	req.Header.Set(webhook.SignatureHeader, webhook.Sign(body, token))
	a, err := b.send(req)
	require.NoError(b.t, err)
	return a
}

// A wrong URL in the portal holds back everything of the app: whoever signed it is no stranger.
func TestServer_NamesTheAppThatIsSentToAWrongAddress(t *testing.T) {
	for _, path := range []string{"/webhooks/nobody", "/webhooks/Other", "/webhooks/other//", "/webhooks", "/hook", "/"} {
		t.Run(path, func(t *testing.T) {
			b := setup(t)
			require.Equal(t, 404, b.postTo(path, event("1", "1"), otherToken).status)
			require.Equal(t, 404, b.postTo(path, event("1", "2"), newToken).status, "the minute has its line")
			lines := b.logs.FilterMessage(toWrongAddress).All()
			require.Len(t, lines, 1)
			require.Equal(t, zapcore.WarnLevel, lines[0].Level)
			require.Equal(t, "other", lines[0].ContextMap()["app"])
			require.Equal(t, path, lines[0].ContextMap()["path"])
			require.Contains(t, lines[0].ContextMap()["reason"], "/webhooks/other")
			require.Empty(t, b.logs.FilterMessage(byStranger).All())
			require.Zero(t, b.stored())
			b.idle()
		})
	}
}

// The line of a stranger does not use up the one of an app of ours.
func TestServer_StrangersDoNotHideAnAppThatIsSentToAWrongAddress(t *testing.T) {
	b := setup(t)
	for range 3 {
		require.Equal(t, 404, b.postTo("/webhooks/nobody", event("1", "1"), "wrong").status)
	}
	require.Equal(t, 404, b.postTo("/webhooks/nobody", event("1", "1"), newToken).status)
	require.Len(t, b.logs.FilterMessage(byStranger).All(), 1)
	lines := b.logs.FilterMessage(toWrongAddress).All()
	require.Len(t, lines, 1)
	require.Equal(t, "demo", lines[0].ContextMap()["app"])
	b.idle()
}

// Anybody can send a header: what it makes the server do is bounded for all of them
// together, and a request without one has no body read.
func TestServer_ChecksFewSignaturesOfRequestsForNobody(t *testing.T) {
	b := setup(t)
	for range 200 {
		require.Equal(t, 404, b.postTo("/webhooks/nobody", event("1", "1"), oldToken).status)
	}
	checked := b.metric("ledgerfeed_ingress_misdirected_total", "app", "demo")
	require.GreaterOrEqual(t, checked, 1.0)
	require.Less(t, checked, 100.0)
	require.EqualValues(t, 200, b.requests("", "unknown_app"))
	b.idle()
}

// A slow body occupies the one place there is; others are answered meanwhile.
func TestServer_ASlowStrangerHoldsNobodyUp(t *testing.T) {
	b := setup(t)
	conn, err := net.Dial("tcp", b.server.Addr())
	require.NoError(t, err)
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "POST /webhooks/nobody HTTP/1.1\r\nHost: x\r\nIntuit-Signature: %s\r\nContent-Length: 1000\r\n\r\n", webhook.Sign(nil, "wrong"))
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		a := b.postTo("/webhooks/nobody", event("1", "1"), oldToken)
		require.Equal(t, 404, a.status)
		require.Less(t, a.took, time.Second, "the slow one takes two")
		return b.metric("ledgerfeed_ingress_in_flight") == 1
	}, 10*time.Second, time.Millisecond)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, 404, resp.StatusCode)
	b.idle()
}

func TestServer_NamesTheAppWhoseTokenSignedForAnother(t *testing.T) {
	b := setup(t)
	require.Equal(t, 401, b.post(event("1", "1"), otherToken).status)
	lines := b.logs.FilterMessage("notification refused").All()
	require.Len(t, lines, 1)
	require.Equal(t, "demo", lines[0].ContextMap()["app"])
	require.Contains(t, lines[0].ContextMap()["reason"], "app other")
}

// I14, for a path too: the token is easily put where the name belongs.
func TestServer_AWrongAddressShowsNoSecrets(t *testing.T) {
	b := setup(t)
	body := event("1", "hunter-1")
	require.Equal(t, 404, b.postTo("/webhooks/"+otherToken.Reveal(), body, otherToken).status)
	require.Equal(t, 404, b.postTo("/webhooks/"+strings.Repeat("x", 5000), body, "wrong-55aa").status)
	require.Len(t, b.logs.FilterMessage(toWrongAddress).All(), 1)
	require.Len(t, b.logs.FilterMessage(byStranger).All(), 1)
	var shown strings.Builder
	for _, line := range b.logs.All() {
		fmt.Fprintln(&shown, line.Message, line.ContextMap())
	}
	for _, s := range []string{"hunter", "02be", "55aa", webhook.Sign(body, otherToken), webhook.Sign(body, "wrong-55aa")} {
		require.NotContains(t, shown.String(), s)
	}
	require.Less(t, shown.Len(), 2000)
}

// Tokens that were replaced name nobody.
func TestServer_AWrongAddressGoesByTheTokensOfTheDay(t *testing.T) {
	b := setup(t)
	c := ingress.DefaultIngressConfig()
	c.Apps = "demo=token-new-91cc-0002-0002; late=token-late-11dd-0004-0004"
	require.NoError(t, b.server.Reload(c))
	require.Equal(t, 404, b.postTo("/webhooks/x", event("1", "1"), oldToken).status)
	require.Empty(t, b.logs.FilterMessage(toWrongAddress).All())
	require.Equal(t, 404, b.postTo("/webhooks/x", event("1", "1"), "token-late-11dd-0004-0004").status)
	require.Equal(t, "late", b.logs.FilterMessage(toWrongAddress).All()[0].ContextMap()["app"])
}

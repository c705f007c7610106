package ingress_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/ingress"
)

// plausible is what may be a signature, and is none.
var plausible = webhook.Sign([]byte("another body"), "wrong")

func TestServer_Answers(t *testing.T) {
	b := setup(t, configured(func(c *ingress.IngressConfig) { c.MaxBody = 1 << 20 }))
	body := event("310687", "1")
	signed := func(token secret.String, body []byte) http.Header {
		return http.Header{"Intuit-Signature": {webhook.Sign(body, token)}}
	}
	full := bytes.Repeat([]byte(" "), 1<<20-len(body))
	full = append(full, body...)
	for _, tc := range []struct {
		name         string
		method, path string
		header       http.Header
		body         []byte
		chunked      bool
		status       int
		app, outcome string
		answer       http.Header
		unread       bool // answered 401 before the body
	}{
		{name: "signed", path: "/webhooks/demo", header: signed(oldToken, body), body: body, status: 200, app: "demo", outcome: "stored"},
		{name: "signed with the second token", path: "/webhooks/demo", header: signed(newToken, body), body: body, status: 200, app: "demo", outcome: "stored"},
		{name: "another app", path: "/webhooks/other", header: signed(otherToken, body), body: body, status: 200, app: "other", outcome: "stored"},
		{name: "trailing slash", path: "/webhooks/demo/", header: signed(oldToken, body), body: body, status: 200, app: "demo", outcome: "stored"},
		{name: "trailing slash, token of another app", path: "/webhooks/demo/", header: signed(otherToken, body), body: body, status: 401, app: "demo", outcome: "bad_signature"},
		{name: "trailing slash, unknown app", path: "/webhooks/nobody/", header: signed(oldToken, body), body: body, status: 404, outcome: "unknown_app"},
		{name: "two trailing slashes", path: "/webhooks/demo//", header: signed(oldToken, body), body: body, status: 404, outcome: "unknown_app"},
		{name: "recorded content type of 2026", path: "/webhooks/demo", header: http.Header{"Intuit-Signature": {webhook.Sign(body, oldToken)}, "Content-Type": {"application/cloudevents-batch+json; charset=utf-8"}}, body: body, status: 200, app: "demo", outcome: "stored"},
		{name: "chunked", path: "/webhooks/demo", header: signed(oldToken, body), body: body, chunked: true, status: 200, app: "demo", outcome: "stored"},
		{name: "CloudEvents content type", path: "/webhooks/demo", header: http.Header{"Intuit-Signature": {webhook.Sign(body, oldToken)}, "Content-Type": {"application/cloudevents+json"}}, body: body, status: 200, app: "demo", outcome: "stored"},
		{name: "broken content type", path: "/webhooks/demo", header: http.Header{"Intuit-Signature": {webhook.Sign(body, oldToken)}, "Content-Type": {"=;;"}}, body: body, status: 200, app: "demo", outcome: "stored"},
		{name: "content encoding is not acted on", path: "/webhooks/demo", header: http.Header{"Intuit-Signature": {webhook.Sign(body, oldToken)}, "Content-Encoding": {"gzip"}}, body: body, status: 200, app: "demo", outcome: "stored"},
		{name: "query", path: "/webhooks/demo?x=1", header: signed(oldToken, body), body: body, status: 200, app: "demo", outcome: "stored"},
		{name: "empty array", path: "/webhooks/demo", header: signed(oldToken, []byte("[]")), body: []byte("[]"), status: 200, app: "demo", outcome: "stored"},
		{name: "unreadable", path: "/webhooks/demo", header: signed(oldToken, []byte("{")), body: []byte("{"), status: 200, app: "demo", outcome: "stored"},
		{name: "empty body, signed", path: "/webhooks/demo", header: signed(oldToken, nil), status: 200, app: "demo", outcome: "stored"},
		{name: "as large as may be", path: "/webhooks/demo", header: signed(oldToken, full), body: full, status: 200, app: "demo", outcome: "stored"},
		{name: "as large as may be, chunked", path: "/webhooks/demo", header: signed(oldToken, full), body: full, chunked: true, status: 200, app: "demo", outcome: "stored"},

		{name: "unsigned", path: "/webhooks/demo", body: body, status: 401, app: "demo", outcome: "no_signature", unread: true},
		{name: "empty signature", path: "/webhooks/demo", header: http.Header{"Intuit-Signature": {""}}, body: body, status: 401, app: "demo", outcome: "no_signature", unread: true},
		{name: "no base64", path: "/webhooks/demo", header: http.Header{"Intuit-Signature": {"signature!"}}, body: body, status: 401, app: "demo", outcome: "bad_signature", unread: true},
		{name: "unsigned, chunked", path: "/webhooks/demo", body: body, chunked: true, status: 401, app: "demo", outcome: "no_signature", unread: true},
		{name: "altered", path: "/webhooks/demo", header: signed(oldToken, body), body: append([]byte(" "), body...), status: 401, app: "demo", outcome: "bad_signature"},
		{name: "token of another app", path: "/webhooks/demo", header: signed(otherToken, body), body: body, status: 401, app: "demo", outcome: "bad_signature"},
		{name: "empty body, unsigned", path: "/webhooks/demo", status: 401, app: "demo", outcome: "no_signature"},
		{name: "unknown app", path: "/webhooks/nobody", header: signed(oldToken, body), body: body, status: 404, outcome: "unknown_app"},
		{name: "app by another case", path: "/webhooks/Demo", header: signed(oldToken, body), body: body, status: 404, outcome: "unknown_app"},
		{name: "escaped slash", path: "/webhooks/demo%2Fx", header: signed(oldToken, body), body: body, status: 404, outcome: "unknown_app"},
		{name: "no app", path: "/webhooks/", header: signed(oldToken, body), body: body, status: 404, outcome: "no_route"},
		{name: "below the app", path: "/webhooks/demo/x", header: signed(oldToken, body), body: body, status: 404, outcome: "unknown_app"},
		{name: "root", path: "/", status: 404, outcome: "no_route"},
		{name: "metrics are elsewhere", method: "GET", path: "/metrics", status: 404, outcome: "no_route"},
		{name: "GET", method: "GET", path: "/webhooks/demo", status: 405, outcome: "wrong_method", answer: http.Header{"Allow": {"POST"}}},
		{name: "OPTIONS", method: "OPTIONS", path: "/webhooks/demo", status: 405, outcome: "wrong_method", answer: http.Header{"Allow": {"POST"}}},
		{name: "PUT", method: "PUT", path: "/webhooks/demo", header: signed(oldToken, body), body: body, status: 405, outcome: "wrong_method", answer: http.Header{"Allow": {"POST"}}},
		{name: "odd method", method: "BREW", path: "/webhooks/demo", status: 405, outcome: "wrong_method", answer: http.Header{"Allow": {"POST"}}},
		{name: "too large", path: "/webhooks/demo", header: signed(oldToken, append(full, ' ')), body: append(full, ' '), status: 413, app: "demo", outcome: "too_large"},
		{name: "too large, chunked", path: "/webhooks/demo", header: signed(oldToken, append(full, ' ')), body: append(full, ' '), chunked: true, status: 413, app: "demo", outcome: "too_large"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.method == "" {
				tc.method = http.MethodPost
			}
			var reader io.Reader = bytes.NewReader(tc.body)
			if tc.chunked {
				reader = io.MultiReader(reader) // hides the length
			}
			req, err := http.NewRequestWithContext(t.Context(), tc.method, "http://"+b.server.Addr()+tc.path, reader)
			require.NoError(t, err)
			if tc.header != nil {
				req.Header = tc.header
			}
			before := b.requests(tc.app, tc.outcome)
			got, err := b.send(req)
			require.NoError(t, err)
			require.Equal(t, tc.status, got.status, got.body)
			require.Equal(t, before+1, b.requests(tc.app, tc.outcome))
			for key := range tc.answer {
				require.Equal(t, tc.answer.Get(key), got.header.Get(key), key)
			}
			require.Equal(t, tc.status != 200 && tc.status != 401 || tc.unread, got.closed, "the connection is closed behind a body that was not read")
			requireChosenText(t, tc.status, got)
		})
	}
	b.idle()
}

// requireChosenText: 200 has no body, anything else is a problem that tells
// nothing about this system.
func requireChosenText(t *testing.T, status int, got answer) {
	t.Helper()
	if status == http.StatusOK {
		require.Empty(t, got.body)
		return
	}
	require.Equal(t, "application/problem+json", got.header.Get("Content-Type"))
	var p map[string]any
	require.NoError(t, json.Unmarshal([]byte(got.body), &p))
	require.Equal(t, "about:blank", p["type"])
	require.Equal(t, http.StatusText(status), p["title"])
	require.EqualValues(t, status, p["status"])
	require.NotEmpty(t, p["detail"])
	require.Len(t, p, 4)
	require.NotRegexp(t, `(?i)nats|echo|token|panic|demo|127\.0|hmac`, got.body)
	require.Equal(t, status == http.StatusServiceUnavailable, got.header.Get("Retry-After") != "")
	require.Equal(t, status == http.StatusUnauthorized, got.header.Get("WWW-Authenticate") != "")
}

// raw sends bytes and returns the answer, without waiting to have sent a body.
func (b *bundle) raw(head string) (*http.Response, time.Duration, func()) {
	b.t.Helper()
	started := time.Now()
	conn, err := net.Dial("tcp", b.server.Addr())
	require.NoError(b.t, err)
	require.NoError(b.t, conn.SetDeadline(started.Add(20*time.Second)))
	_, err = io.WriteString(conn, strings.ReplaceAll(head, "\n", "\r\n"))
	require.NoError(b.t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), httptest.NewRequest(http.MethodPost, "/", nil))
	require.NoError(b.t, err)
	return resp, time.Since(started), func() { resp.Body.Close(); conn.Close() }
}

func TestServer_AnswersBeforeABodyItDoesNotNeed(t *testing.T) {
	b := setup(t, configured(func(c *ingress.IngressConfig) { c.MaxBody = 1 << 20 }))
	for name, tc := range map[string]struct {
		head   string
		status int
	}{
		"unknown app":         {"POST /webhooks/nobody HTTP/1.1\nHost: x\nContent-Length: 1000\n\n", 404},
		"unknown app, waits":  {"POST /webhooks/nobody HTTP/1.1\nHost: x\nContent-Length: 1000\nExpect: 100-continue\n\n", 404},
		"no route":            {"POST / HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\n", 404},
		"method":              {"PUT /webhooks/demo HTTP/1.1\nHost: x\nContent-Length: 1000\n\n", 405},
		"too large":           {"POST /webhooks/demo HTTP/1.1\nHost: x\nIntuit-Signature: " + plausible + "\nContent-Length: 1048577\n\n", 413},
		"too large, waits":    {"POST /webhooks/demo HTTP/1.1\nHost: x\nIntuit-Signature: " + plausible + "\nContent-Length: 1048577\nExpect: 100-continue\n\n", 413},
		"absurdly large":      {"POST /webhooks/demo HTTP/1.1\nHost: x\nIntuit-Signature: " + plausible + "\nContent-Length: 9223372036854775807\n\n", 413},
		"unsigned":            {"POST /webhooks/demo HTTP/1.1\nHost: x\nContent-Length: 1000\n\n", 401},
		"unsigned, waits":     {"POST /webhooks/demo HTTP/1.1\nHost: x\nContent-Length: 1000\nExpect: 100-continue\n\n", 401},
		"unsigned, chunked":   {"POST /webhooks/demo HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\n", 401},
		"hexadecimal":         {"POST /webhooks/demo HTTP/1.1\nHost: x\nIntuit-Signature: " + strings.Repeat("a0", 32) + "\nContent-Length: 1000\n\n", 401},
		"header too large":    {"POST /webhooks/demo HTTP/1.1\nHost: x\nX: " + strings.Repeat("x", 64<<10) + "\n\n", 431},
		"two content lengths": {"POST /webhooks/demo HTTP/1.1\nHost: x\nContent-Length: 1\nContent-Length: 2\n\n", 400},
	} {
		resp, took, done := b.raw(tc.head)
		require.Equal(t, tc.status, resp.StatusCode, name)
		require.Less(t, took, 2*time.Second, name)
		done()
	}
	b.idle()
}

func TestServer_SlowBodyIs408(t *testing.T) {
	b := setup(t, configured(func(c *ingress.IngressConfig) { c.BodyTimeout = 200 * time.Millisecond }))
	for _, length := range []string{"Content-Length: 1000", "Transfer-Encoding: chunked"} {
		resp, took, done := b.raw("POST /webhooks/demo HTTP/1.1\nHost: x\nIntuit-Signature: " + plausible + "\n" + length + "\n\n1\n")
		require.Equal(t, 408, resp.StatusCode)
		require.True(t, resp.Close)
		require.Greater(t, took, 190*time.Millisecond)
		require.Less(t, took, 5*time.Second)
		done()
	}
	require.EqualValues(t, 2, b.requests("demo", "slow_body"))
	b.idle()
}

func TestServer_BrokenBodyIsCountedNotStored(t *testing.T) {
	b := setup(t)
	conn, err := net.Dial("tcp", b.server.Addr())
	require.NoError(t, err)
	_, err = io.WriteString(conn, "POST /webhooks/demo HTTP/1.1\r\nHost: x\r\nIntuit-Signature: "+plausible+"\r\nContent-Length: 1000\r\n\r\n[")
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	require.Eventually(t, func() bool { return b.requests("demo", "broken_body") == 1 }, 10*time.Second, 2*time.Millisecond)
	require.Zero(t, b.stored())
	b.idle()
}

// A connection is used again after a refusal and after the deadline of its last
// body has passed: the first answer here takes the whole of it.
func TestServer_ConnectionsAreUsedAgain(t *testing.T) {
	h := newHeld()
	b := setup(t, h.with(), configured(func(c *ingress.IngressConfig) { c.Budget, c.BodyTimeout = 100*time.Millisecond, 100*time.Millisecond }))
	conn, err := net.Dial("tcp", b.server.Addr())
	require.NoError(t, err)
	defer conn.Close()
	r := bufio.NewReader(conn)
	post := func(token secret.String) int {
		require.NoError(t, b.request(event("1", "1"), token).Write(conn))
		resp, err := http.ReadResponse(r, nil)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		return resp.StatusCode
	}
	require.Equal(t, 503, post(oldToken))
	require.Equal(t, 401, post("wrong"))
	close(h.release)
	require.Equal(t, 200, post(oldToken))
}

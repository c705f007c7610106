package console_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/console"
)

// A proxy on this machine asks for 127.0.0.1, and its clients are anywhere.
func TestGuard_WithoutTLSNothingComesThroughAProxy(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*console.ConsoleConfig){
		"no login":                                     func(*console.ConsoleConfig) {},
		"a login, and no TLS to protect it":            withTokens,
		"no login at an https address of this machine": func(c *console.ConsoleConfig) { c.PublicURL = "https://localhost:8443" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, edit)
			for _, header := range []string{
				"Forwarded: for=203.0.113.9", "X-Forwarded-For: 203.0.113.9", "X-Forwarded-Host: console.example.com", "X-Forwarded-Proto: https",
				"x-forwarded-anything: 1", "X-Real-IP: 203.0.113.9", "Via: 1.1 proxy", "Via:",
			} {
				key, value, _ := strings.Cut(header, ":")
				resp, _ := b.ask(http.MethodPost, "/api/v1/sinks/crm/pause", url.Values{}, key, strings.TrimSpace(value), "Authorization", "Bearer "+operatorToken)
				require.Equal(t, http.StatusForbidden, resp.StatusCode, header)
			}
			paused, err := b.store.PausedSinks(t.Context())
			require.NoError(t, err)
			require.Empty(t, paused)
			resp, _ := b.ask(http.MethodPost, "/api/v1/sinks/crm/pause", url.Values{}, "Authorization", "Bearer "+operatorToken)
			require.Equal(t, http.StatusOK, resp.StatusCode, "straight from this machine")
		})
	}
}

func TestGuard_WithTLSAProxyIsInFront(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *console.ConsoleConfig) { withTokens(c); c.PublicURL = public })
	resp, _ := b.ask(http.MethodGet, overview, nil, "X-Forwarded-For", "203.0.113.9", "Via", "1.1 proxy", "Authorization", "Bearer "+viewerToken)
	require.Equal(t, http.StatusOK, resp.StatusCode)
}

// unsized is a body whose size is not said.
type unsized struct{ io.Reader }

func TestGuard_BodiesAreSmallForms(t *testing.T) {
	t.Parallel()
	b := setup(t, withTokens)
	send := func(method, path, kind string, body io.Reader) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, b.server.URL+path, body)
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+operatorToken)
		if kind != "" {
			req.Header.Set("Content-Type", kind)
		}
		resp, err := b.client.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(text)
	}
	const form = "application/x-www-form-urlencoded"
	padded := func(size int) string { return "entity=Invoice&x=" + strings.Repeat("a", size) }
	var multi bytes.Buffer
	w := multipart.NewWriter(&multi)
	require.NoError(t, w.WriteField("token", operatorToken))
	require.NoError(t, w.Close())
	scan := "/api/v1/realms/" + realm + "/scan"
	for _, tc := range []struct {
		name, method, path, kind string
		body                     io.Reader
		status                   int
	}{
		{"form", "POST", scan, form, strings.NewReader(padded(1000)), http.StatusOK},
		{"form with a character set", "POST", "/api/v1/sinks/crm/resume", form + "; charset=utf-8", strings.NewReader(padded(10)), http.StatusOK},
		{"no body", "POST", "/api/v1/sinks/crm/resume", "", nil, http.StatusOK},
		{"large", "POST", scan, form, strings.NewReader(padded(70_000)), http.StatusRequestEntityTooLarge},
		{"large, of a size that is not said", "POST", scan, form, unsized{strings.NewReader(padded(70_000))}, http.StatusRequestEntityTooLarge},
		{"broken", "POST", scan, form, strings.NewReader("entity=%zz"), http.StatusBadRequest},
		{"parts", "POST", scan, w.FormDataContentType(), bytes.NewReader(multi.Bytes()), http.StatusUnsupportedMediaType},
		{"JSON", "POST", scan, "application/json", strings.NewReader(`{"entity":"Invoice"}`), http.StatusUnsupportedMediaType},
		{"no type", "POST", scan, "", strings.NewReader(padded(10)), http.StatusUnsupportedMediaType},
		{"login", "POST", "/login", form, strings.NewReader("token=" + operatorToken), http.StatusSeeOther},
		{"login of parts", "POST", "/login", w.FormDataContentType(), bytes.NewReader(multi.Bytes()), http.StatusUnsupportedMediaType},
		{"large login", "POST", "/login", form, strings.NewReader(padded(5000)), http.StatusRequestEntityTooLarge},
		{"large login of a size that is not said", "POST", "/login", form, unsized{strings.NewReader(padded(5000))}, http.StatusRequestEntityTooLarge},
		{"large disconnect", "POST", "/realms/" + realm + "/disconnect", form, unsized{strings.NewReader(padded(70_000))}, http.StatusRequestEntityTooLarge},
		{"disconnect of parts", "POST", "/realms/" + realm + "/disconnect", w.FormDataContentType(), bytes.NewReader(multi.Bytes()), http.StatusUnsupportedMediaType},
		{"page with parts", "GET", "/login", w.FormDataContentType(), bytes.NewReader(multi.Bytes()), http.StatusSeeOther},
		// What the import makes of it, not the limit of the others.
		{"import", "POST", "/tokens", "text/csv", strings.NewReader(strings.Repeat(strings.Repeat("x", 4000)+"\n", 50)), http.StatusOK},
		{"import of one", "POST", "/realms/" + realm + "/token", "application/json", strings.NewReader(`{"refresh":1}`), http.StatusBadRequest},
		{"large import of one", "POST", "/realms/" + realm + "/token", "application/json", strings.NewReader(padded(70_000)), http.StatusRequestEntityTooLarge},
	} {
		status, body := send(tc.method, tc.path, tc.kind, tc.body)
		require.Equal(t, tc.status, status, "%s: %s", tc.name, body)
	}
	_, err := b.connections.Get(t.Context(), realm)
	require.NoError(t, err)
	families, err := b.registry.Gather()
	require.NoError(t, err)
	require.Contains(t, fmt.Sprint(families), "body_size")
}

func TestGuard_HeadersAreSmall(t *testing.T) {
	t.Parallel()
	b := setup(t, withTokens)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.console.Run(ctx) }()
	defer func() { stop(); require.NoError(t, <-ended) }()
	for size, status := range map[int]int{10_000: http.StatusOK, 40_000: http.StatusRequestHeaderFieldsTooLarge} {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.console.URL()+"livez", nil)
		require.NoError(t, err)
		req.Header.Set("Cookie", "a="+strings.Repeat("b", size))
		resp, err := b.client.Do(req)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, status, resp.StatusCode)
	}
}

var pings = regexp.MustCompile(`cmdstat_ping:calls=(\d+)`)

// Anybody may ask whether the console is ready; its servers are asked once a second.
func TestGuard_ReadyIsNotAskedOfRedisEachTime(t *testing.T) {
	t.Parallel()
	b := setupOn(t, devtest.RealRedis(t), withTokens)
	count := func() int {
		text, err := b.store.Redis().Info(t.Context(), "commandstats").Result()
		require.NoError(t, err)
		n := 0
		if m := pings.FindStringSubmatch(text); m != nil {
			n, err = strconv.Atoi(m[1])
			require.NoError(t, err)
		}
		return n
	}
	before, began := count(), time.Now()
	const asked = 200
	for range asked {
		resp, _ := b.ask(http.MethodGet, "/readyz", nil)
		require.Equal(t, http.StatusOK, resp.StatusCode)
	}
	seconds := int(time.Since(began)/time.Second) + 1
	require.LessOrEqual(t, count()-before, seconds+2)
}

// A login may have some pages open, not any number.
func TestGuard_LivePagesAreBounded(t *testing.T) {
	t.Parallel()
	b := setup(t, withTokens)
	open := func(cookie string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.server.URL+"/events/", nil)
		require.NoError(t, err)
		req.Header.Set("Cookie", cookie)
		resp, err := b.client.Do(req)
		require.NoError(t, err)
		t.Cleanup(func() { resp.Body.Close() })
		return resp.StatusCode
	}
	one, other := b.logIn(viewerToken), b.logIn(viewerToken)
	for range 16 {
		require.Equal(t, http.StatusOK, open(one))
	}
	require.Equal(t, http.StatusTooManyRequests, open(one))
	require.Equal(t, http.StatusOK, open(other))
}

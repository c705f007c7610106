package loopback_test

import (
	"bufio"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/labstack/echo/v4"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/loopback"
)

func TestDirectOnly_RefusesWhatAProxyForwards(t *testing.T) {
	t.Parallel()
	e := echo.New()
	e.Use(loopback.DirectOnly("Set a token."))
	e.GET("/", func(c echo.Context) error { return c.NoContent(http.StatusNoContent) })
	for _, tt := range []struct {
		name, header, value string
		want                int
	}{
		{"direct", "", "", http.StatusNoContent},
		{"other headers", "X-Request-Id", "1", http.StatusNoContent},
		{"RFC 7239", "Forwarded", "for=203.0.113.7", http.StatusForbidden},
		{"address", "X-Forwarded-For", "203.0.113.7", http.StatusForbidden},
		{"lower case", "x-forwarded-for", "203.0.113.7", http.StatusForbidden},
		{"host", "X-Forwarded-Host", "feed.example.com", http.StatusForbidden},
		{"scheme", "X-Forwarded-Proto", "https", http.StatusForbidden},
		{"client certificate", "X-Forwarded-Client-Cert", "Hash=1", http.StatusForbidden},
		{"nginx", "X-Real-IP", "203.0.113.7", http.StatusForbidden},
		{"proxy", "Via", "1.1 proxy", http.StatusForbidden},
		{"empty value", "Via", "", http.StatusForbidden},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
			if tt.header != "" {
				raw := "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + tt.header + ": " + tt.value + "\r\n\r\n"
				r = readRequest(t, raw)
			}
			w := httptest.NewRecorder()
			e.ServeHTTP(w, r)
			require.Equal(t, tt.want, w.Code, w.Body)
			if tt.want == http.StatusForbidden {
				require.Contains(t, w.Body.String(), "Set a token.")
			}
		})
	}
}

// readRequest reads a request as a server does, with the names of headers as they were sent.
func readRequest(t *testing.T, raw string) *http.Request {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
	require.NoError(t, err)
	return r
}

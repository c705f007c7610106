package load

import (
	"crypto/tls"
	"net"
	"net/url"
	"time"

	"github.com/valyala/fasthttp"
)

// newClient returns a client that never sends a request twice by itself.
func newClient(o Options) *fasthttp.HostClient {
	u, _ := url.Parse(o.URL) // Validate has seen it
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return &fasthttp.HostClient{
		Addr:                net.JoinHostPort(u.Hostname(), port),
		IsTLS:               u.Scheme == "https",
		TLSConfig:           &tls.Config{InsecureSkipVerify: o.InsecureTLS, ServerName: u.Hostname()}, //nolint:gosec // only where the person asked for it
		MaxConns:            o.Connections,
		MaxConnWaitTimeout:  o.Timeout,
		MaxIdleConnDuration: time.Minute,
		RetryIfErr:          func(*fasthttp.Request, int, error) (bool, bool) { return false, false },
		Dial: func(addr string) (conn net.Conn, err error) {
			return fasthttp.DialDualStackTimeout(addr, o.Timeout)
		},
		// Small: thousands of connections may be open.
		ReadBufferSize: 1024, WriteBufferSize: 4096,
	}
}

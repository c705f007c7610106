package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
)

// outcome is an HTTP status, or one of the following.
type outcome int

const (
	timedOut  outcome = -iota - 1
	refused           // the port is closed
	noConnect         // no connection for another reason
	broken            // the connection ended before the answer
	notSent           // no connection became free in time
)

func (o outcome) String() string {
	names := map[outcome]string{timedOut: "timeout", refused: "refused", noConnect: "no connection", broken: "broken", notSent: "not sent"}
	if name, ok := names[o]; ok {
		return name
	}
	return fmt.Sprint(int(o))
}

// unsent says that the server did not see the request.
func (o outcome) unsent() bool { return o == notSent || o.unconnected() }

func (o outcome) unconnected() bool { return o == refused || o == noConnect }

// target is what a URL says about where to connect.
type target struct {
	address string
	tls     *tls.Config // nil: plain
	dialer  net.Dialer
}

func newTarget(o Options) target {
	u, _ := url.Parse(o.URL) // Validate has seen it
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	t := target{address: net.JoinHostPort(u.Hostname(), port), dialer: net.Dialer{Timeout: o.Timeout}}
	if u.Scheme == "https" {
		t.tls = &tls.Config{ServerName: u.Hostname(), InsecureSkipVerify: o.InsecureTLS} //nolint:gosec // only where the person asked for it
	}
	return t
}

// reach connects once, so that a wrong address is told before a long run.
func (t target) reach(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	dial := t.dialer.DialContext
	if t.tls != nil {
		dial = (&tls.Dialer{NetDialer: &t.dialer, Config: t.tls}).DialContext
	}
	conn, err := dial(ctx, "tcp", t.address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// client never sends a request twice by itself. It speaks HTTP/1.1.
func (t target) client(o Options) *fasthttp.HostClient {
	return &fasthttp.HostClient{
		Addr:      t.address,
		IsTLS:     t.tls != nil,
		TLSConfig: t.tls,
		MaxConns:  o.Connections,
		// There are as many workers, so that one waits only for another that is
		// just closing its connection.
		MaxConnWaitTimeout: o.Timeout,
		RetryIfErr:         func(*fasthttp.Request, int, error) (bool, bool) { return false, false },
		Dial:               func(addr string) (net.Conn, error) { return t.dialer.Dial("tcp", addr) },
		// Shorter than servers keep an idle one, which would count as broken.
		MaxIdleConnDuration: 3 * time.Second,
		MaxResponseBodySize: 64 << 10,
		ReadBufferSize:      4096, WriteBufferSize: 4096,
	}
}

// failure says what kind of failure err is.
func failure(err error) outcome {
	var op *net.OpError
	var slow interface{ Timeout() bool } // net.Error asks for more than fasthttp's error has
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return refused
	case errors.As(err, &op) && op.Op == "dial":
		return noConnect
	case errors.As(err, &slow) && slow.Timeout():
		return timedOut
	default:
		return broken
	}
}

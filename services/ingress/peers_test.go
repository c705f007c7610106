package ingress_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/services/ingress"
)

const (
	strangers = "127.0.0.9" // where the attacks come from
	intuits   = "127.0.0.2"
)

// from dials from an address of this machine, to a server of this machine.
func from(addr string) func(context.Context, string, string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}, Timeout: 5 * time.Second}
	return d.DialContext
}

// sender is a client of its own at an address.
func sender(t *testing.T, addr string, keep bool) *http.Client {
	transport := &http.Transport{DialContext: from(addr), DisableKeepAlives: !keep}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// attack repeats what one hostile connection does, n at a time, until the test ends.
func attack(t *testing.T, server, addr string, n int, once func(conn net.Conn) error) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	var all sync.WaitGroup
	t.Cleanup(func() { stop(); all.Wait() })
	for range n {
		all.Go(func() {
			for ctx.Err() == nil {
				conn, err := from(addr)(ctx, "tcp", server)
				if err != nil {
					continue
				}
				ended := context.AfterFunc(ctx, func() { conn.Close() })
				_ = once(conn)
				ended()
				_ = conn.(*net.TCPConn).SetLinger(0)
				conn.Close()
			}
		})
	}
}

// hang reads until the other side closes.
func hang(conn net.Conn) error {
	_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	_, err := io.Copy(io.Discard, conn)
	return err
}

// flood sends the beginning of a body of 8 MiB, a little more than half of it, and holds
// the rest back: the memory for it is reserved by then.
func flood(header string, most int64) func(net.Conn) error {
	head := fmt.Sprintf("POST /webhooks/demo HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n", header, most)
	return func(conn net.Conn) error {
		if _, err := io.WriteString(conn, head); err != nil {
			return err
		}
		part := strings.Repeat(" ", 64<<10)
		for sent := int64(0); sent < most/2+8<<10; sent += int64(len(part)) {
			if _, err := io.WriteString(conn, part); err != nil {
				return err
			}
		}
		return hang(conn)
	}
}

// answered sends signed webhooks for a while and returns how many of them got 200.
func (b *bundle) answered(client *http.Client, n int) (good int) {
	b.t.Helper()
	b.client = client
	for i := range n {
		a, err := b.send(b.request(event("1", fmt.Sprint(i)), oldToken))
		if err == nil && a.status == http.StatusOK {
			good++
		}
	}
	return good
}

// Nine connections that hold bodies of no signature, and nine whose signature looks like
// one, leave room for Intuit.
func TestServer_BodiesOfStrangersLeaveRoomForIntuit(t *testing.T) {
	for name, header := range map[string]string{"unsigned": "", "signed by nobody": webhook.SignatureHeader + ": " + plausible + "\r\n"} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			b.client = sender(t, intuits, true)
			attack(t, b.server.Addr(), strangers, 9, flood(header, ingress.DefaultIngressConfig().MaxBody))
			require.Eventually(t, func() bool {
				return b.requests("demo", "no_signature")+b.requests("demo", "overloaded") > 0
			}, 20*time.Second, time.Millisecond)
			require.GreaterOrEqual(t, b.answered(sender(t, intuits, true), 300), 297, "of 300")
		})
	}
}

// A body is not read before there is a signature that may be one: no memory is reserved
// for it.
func TestServer_ReadsNoBodyWithoutAPlausibleSignature(t *testing.T) {
	b := setup(t)
	b.server.Occupy(ingress.DefaultIngressConfig().MaxInFlightBytes)
	for _, signature := range []string{"", "x", plausible[:43], plausible + "=", strings.Repeat("A", 44), strings.Repeat("!", 43) + "="} {
		req := b.request(event("1", "1"), "")
		req.Header.Set(webhook.SignatureHeader, signature)
		a, err := b.send(req)
		require.NoError(t, err)
		require.Equal(t, 401, a.status, signature)
		require.True(t, a.closed)
	}
	require.Equal(t, 503, b.post(event("1", "1"), "wrong").status, "one that may be a signature has its body read")
}

// Seventy-five slow senders of one address against sixty places: Intuit gets at least
// half of them, whichever way they are slow.
func TestConnections_SlowSendersOfOneAddressLeaveRoomForIntuit(t *testing.T) {
	head := "POST /webhooks/demo HTTP/1.1\r\nHost: x\r\n"
	for name, beginning := range map[string]string{
		"silent":         "",
		"slow headers":   head,
		"no body":        head + webhook.SignatureHeader + ": " + plausible + "\r\nContent-Length: 1000\r\n\r\n",
		"silent, behind": head + "Content-Length: 0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t, configured(func(c *ingress.IngressConfig) { c.MaxConnections = 60 }))
			attack(t, b.server.Addr(), strangers, 75, func(conn net.Conn) error {
				if _, err := io.WriteString(conn, beginning); err != nil {
					return err
				}
				return hang(conn)
			})
			require.Eventually(t, func() bool {
				return b.metric("ledgerfeed_ingress_strangers_refused_total", "limit", "connections") > 0
			}, 20*time.Second, time.Millisecond)
			b.holdsHalf(60)
		})
	}
}

// holdsHalf opens half of the connections, sends a webhook on each, and keeps them all.
func (b *bundle) holdsHalf(places int) {
	b.t.Helper()
	for i := range places / 2 {
		// Intuit sends from several addresses.
		conn, err := from(fmt.Sprint("127.0.1.", 1+i%7))(b.t.Context(), "tcp", b.server.Addr())
		require.NoError(b.t, err)
		b.t.Cleanup(func() { conn.Close() })
		require.NoError(b.t, b.request(event("1", fmt.Sprint(i)), oldToken).Write(conn))
		require.NoError(b.t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(b.t, err)
		resp.Body.Close()
		require.Equal(b.t, 200, resp.StatusCode, i)
	}
}

// The same from seventy-five addresses: all strangers together have half of the places,
// and the other half is left to the addresses that have sent signed webhooks before.
func TestConnections_StrangersTogetherHaveHalfOfThePlaces(t *testing.T) {
	b := setup(t, configured(func(c *ingress.IngressConfig) { c.MaxConnections = 60 }))
	for i := range 7 {
		require.Equal(t, 1, b.answered(sender(t, fmt.Sprint("127.0.1.", 1+i), false), 1))
	}
	head := "POST /webhooks/demo HTTP/1.1\r\nHost: x\r\n" + webhook.SignatureHeader + ": " + plausible + "\r\nContent-Length: 1000\r\n\r\n"
	for i := range 75 {
		attack(t, b.server.Addr(), fmt.Sprint("127.0.2.", 1+i), 1, func(conn net.Conn) error {
			if _, err := io.WriteString(conn, head); err != nil {
				return err
			}
			return hang(conn)
		})
	}
	require.Eventually(t, func() bool {
		return b.metric("ledgerfeed_ingress_strangers_refused_total", "limit", "connections") > 0
	}, 20*time.Second, time.Millisecond)
	require.Eventually(t, func() bool { return b.metric("ledgerfeed_ingress_connections") <= 30 }, 20*time.Second, time.Millisecond)
	b.holdsHalf(60)
}

// Behind a trusted proxy the connections are the proxy's, and each sender is limited by
// the address that the proxy names.
func TestPeers_ATrustedProxyIsNotOnePeer(t *testing.T) {
	b := setup(t, configured(func(c *ingress.IngressConfig) {
		c.MaxConnections, c.TrustedProxies, c.BodyTimeout = 60, []string{"127.0.0.9/32"}, 2*time.Second
	}))
	var open atomic.Int64
	attack(t, b.server.Addr(), strangers, 40, func(conn net.Conn) error {
		_, err := fmt.Fprintf(conn, "POST /webhooks/demo HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.7\r\n%s: %s\r\nContent-Length: 1000\r\n\r\n", webhook.SignatureHeader, plausible)
		if err != nil {
			return err
		}
		open.Add(1)
		return hang(conn)
	})
	require.Eventually(t, func() bool {
		return open.Load() >= 40 && b.metric("ledgerfeed_ingress_strangers_refused_total", "limit", "requests") > 0
	}, 20*time.Second, time.Millisecond, "the proxy has more connections than a stranger may have")
	require.Zero(t, b.metric("ledgerfeed_ingress_strangers_refused_total", "limit", "connections"))
	require.LessOrEqual(t, b.metric("ledgerfeed_ingress_in_flight"), 17.0)
	b.client = sender(t, strangers, true)
	for i := range 20 {
		req := b.request(event("1", fmt.Sprint(i)), oldToken)
		req.Header.Set("X-Forwarded-For", "198.51.100.2")
		a, err := b.send(req)
		require.NoError(t, err)
		require.Equal(t, 200, a.status)
	}
}

// A proxy that nobody listed is one address, too: the first signed webhook that comes
// through it lifts its limit.
func TestPeers_AnAddressThatSignsIsNotLimited(t *testing.T) {
	b := setup(t, configured(func(c *ingress.IngressConfig) { c.MaxConnections = 100 }))
	hold := func() (refused bool) {
		conn, err := from(strangers)(t.Context(), "tcp", b.server.Addr())
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
		require.NoError(t, b.request(nil, "").Write(conn))
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		resp.Body.Close()
		return resp.StatusCode == 503
	}
	n := 0
	for ; n < 40 && !hold(); n++ {
	}
	require.Equal(t, 25, n)
	warning := b.logs.FilterMessage("address reached its share of connections, requests or bytes").All()
	require.Len(t, warning, 1)
	require.Equal(t, strangers, warning[0].ContextMap()["address"])
	// One of them gives way after its grace, and what comes then is signed.
	require.Eventually(t, func() bool { return b.answered(sender(t, strangers, false), 1) == 1 }, 20*time.Second, 20*time.Millisecond)
	for range 40 {
		require.False(t, hold())
	}
}

// Who has one IPv6 address has 2⁶⁴ of them.
func TestPeers_AnIPv6NetworkIsOnePeer(t *testing.T) {
	b := setup(t, configured(func(c *ingress.IngressConfig) { c.MaxConnections, c.TrustedProxies = 60, []string{"127.0.0.0/8"} }))
	var n atomic.Int64
	attack(t, b.server.Addr(), "127.0.0.1", 40, func(conn net.Conn) error {
		_, err := fmt.Fprintf(conn, "POST /webhooks/demo HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 2001:db8:0:1::%x\r\n%s: %s\r\nContent-Length: 1000\r\n\r\n", n.Add(1), webhook.SignatureHeader, plausible)
		if err != nil {
			return err
		}
		return hang(conn)
	})
	require.Eventually(t, func() bool {
		return b.metric("ledgerfeed_ingress_strangers_refused_total", "limit", "requests") > 0
	}, 20*time.Second, time.Millisecond)
	require.LessOrEqual(t, b.metric("ledgerfeed_ingress_in_flight"), 16.0)
}

// What strangers held is free again when they are gone.
func TestPeers_GiveBackWhatTheyHeld(t *testing.T) {
	b := setup(t, configured(func(c *ingress.IngressConfig) {
		c.MaxConnections, c.BodyTimeout = 60, 100*time.Millisecond
	}))
	for range 3 {
		var conns []net.Conn
		for range 16 {
			conn, err := from(strangers)(t.Context(), "tcp", b.server.Addr())
			require.NoError(t, err)
			conns = append(conns, conn)
			_, err = fmt.Fprintf(conn, "POST /webhooks/demo HTTP/1.1\r\nHost: x\r\n%s: %s\r\nContent-Length: 1000\r\n\r\n[", webhook.SignatureHeader, plausible)
			require.NoError(t, err)
		}
		for _, conn := range conns {
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err)
			resp.Body.Close()
			require.Equal(t, 408, resp.StatusCode)
			conn.Close()
		}
		b.requireOpen(0)
		b.idle()
	}
	require.Zero(t, b.server.Strangers())
}

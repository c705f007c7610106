package attack_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
)

const stored = "ledgerfeed_ingress_events_total"

// raw sends bytes on a connection of its own and returns all that comes back until the
// other side closes, or says nothing for a while.
func (s *stack) raw(addr, text string) string {
	s.Helper()
	conn, err := from(attacker)(s.Context(), "tcp", addr)
	require.NoError(s, err)
	defer conn.Close()
	_, _ = io.WriteString(conn, text) // it may be cut off
	var answer bytes.Buffer
	part := make([]byte, 4096)
	for {
		_ = conn.SetReadDeadline(time.Now().Add(700 * time.Millisecond))
		n, err := conn.Read(part)
		answer.Write(part[:n])
		if err != nil {
			return answer.String()
		}
	}
}

func (s *stack) signatures() {
	body := bodyOf(event(company, "Invoice", "1", "updated", time.Now()))
	good := webhook.Sign(body, productionToken)
	sum, err := base64.StdEncoding.DecodeString(good)
	require.NoError(s, err)
	before := s.metric("ingress", stored, "")
	post := func(body string, headers ...string) string {
		return fmt.Sprintf("POST /webhooks/production HTTP/1.1\r\nHost: x\r\n%s\r\nContent-Length: %d\r\n\r\n%s", strings.Join(headers, "\r\n"), len(body), body)
	}
	const name = "intuit-signature: "
	for what, request := range map[string]string{
		"missing":             post(string(body), "X: y"),
		"empty":               post(string(body), name),
		"blank":               post(string(body), name+"   "),
		"by an empty token":   post(string(body), name+webhook.Sign(body, "")),
		"by another app":      post(string(body), name+webhook.Sign(body, sandboxToken)),
		"prefix":              post(string(body), name+"sha256="+good),
		"hexadecimal":         post(string(body), name+hex.EncodeToString(sum)),
		"lower case":          post(string(body), name+strings.ToLower(good)),
		"no padding":          post(string(body), name+strings.TrimRight(good, "=")),
		"two in one":          post(string(body), name+good+","+good),
		"something behind it": post(string(body), name+good+"x"),
		"31 bytes":            post(string(body), name+base64.StdEncoding.EncodeToString(sum[:31])),
		"another body":        post(string(body)+"\n", name+good),
		"a zero behind it":    post(string(body)+"\x00", name+good),
		"the second of two":   post(string(body), name+webhook.Sign(body, "wrong"), name+good),
		"under another name":  post(string(body), "x-intuit-signature: "+good, "intuit_signature: "+good),
		"in a trailer": "POST /webhooks/production HTTP/1.1\r\nHost: x\r\nTrailer: Intuit-Signature\r\nTransfer-Encoding: chunked\r\n\r\n" +
			fmt.Sprintf("%x\r\n%s\r\n0\r\nIntuit-Signature: %s\r\n\r\n", len(body), body, good),
	} {
		require.Regexp(s, `^HTTP/1\.1 401 `, s.raw(s.listen["ingress"], request), what)
	}
	require.Equal(s, before, s.metric("ingress", stored, ""), "something was stored")
}

func (s *stack) paths() {
	body := bodyOf(event(company, "Invoice", "1", "updated", time.Now()))
	signed := fmt.Sprintf("intuit-signature: %s\r\nContent-Length: %d\r\n\r\n%s", webhook.Sign(body, productionToken), len(body), body)
	before := s.metric("ingress", stored, "")
	for _, target := range []string{
		"POST /webhooks%2fproduction", "POST /webhooks/%64ev", "POST /webhooks/../metrics", "POST //webhooks/production", "POST /webhooks/production%00",
		"POST /webhooks/production;x=1", "POST /webhooks/\u202eproduction", "POST /webhooks/production/../sandbox", "POST /", "POST /webhooks/",
		"GET /webhooks/production", "PUT /webhooks/production", "TRACE /webhooks/production", "OPTIONS /webhooks/production", "DELETE /webhooks/production",
		"CONNECT /webhooks/production", "GET /metrics", "GET /debug/pprof/", "GET /readyz", "GET /livez", "GET /debug/vars",
	} {
		got := s.raw(s.listen["ingress"], target+" HTTP/1.1\r\nHost: x\r\nX-HTTP-Method-Override: POST\r\nX-Original-URL: /webhooks/production\r\n"+signed)
		require.Regexp(s, `^HTTP/1\.1 4\d\d `, got, target)
		require.NotRegexp(s, `(?i)goroutine|go_gc|heap`, got, target)
	}
	require.Equal(s, before, s.metric("ingress", stored, ""))
}

func (s *stack) smuggling() {
	body := bodyOf(event(company, "Invoice", "1", "updated", time.Now()))
	hidden := fmt.Sprintf("POST /webhooks/production HTTP/1.1\r\nHost: x\r\nintuit-signature: %s\r\nContent-Length: %d\r\n\r\n%s", webhook.Sign(body, productionToken), len(body), body)
	head := "POST /webhooks/production HTTP/1.1\r\nHost: x\r\nintuit-signature: " + webhook.Sign([]byte("x"), "wrong") + "\r\n"
	before := s.metric("ingress", stored, "")
	for what, request := range map[string]string{
		"two lengths":          head + "Content-Length: 0\r\nContent-Length: 5\r\n\r\n" + hidden,
		"a sign":               head + "Content-Length: +5\r\n\r\n" + hidden,
		"negative":             head + "Content-Length: -1\r\n\r\n" + hidden,
		"a list":               head + "Content-Length: 0, 0\r\n\r\n",
		"xchunked":             head + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + hidden,
		"chunked twice":        head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden,
		"vertical tab":         head + "Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n" + hidden,
		"space before colon":   head + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + hidden,
		"identity":             head + "Transfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc" + hidden,
		"bare line feed":       head + "Transfer-Encoding: chunked\r\n\r\n3;\nabc\r\nabc\r\n0\r\n\r\n" + hidden,
		"negative chunk":       head + "Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n" + hidden,
		"huge chunk":           head + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n" + hidden,
		"upgrade to h2c":       "POST /webhooks/production HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\nContent-Length: 9\r\n\r\nabc" + hidden,
		"prior knowledge":      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"headers without end":  head + "X: " + strings.Repeat("a", 64<<10) + "\r\n\r\n" + hidden,
		"a header of no name":  head + ": x\r\n\r\n" + hidden,
		"a zero in a header":   head + "X: a\x00b\r\n\r\n" + hidden,
		"a line in a header":   head + "X: a\rContent-Length: 0\r\n\r\n" + hidden,
		"absolute, other host": "POST http://evil.example/webhooks/nobody HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
	} {
		got := s.raw(s.listen["ingress"], request)
		require.NotContains(s, got, "HTTP/1.1 200", what)
		require.NotContains(s, got, "HTTP/1.1 101", what)
	}
	require.Equal(s, before, s.metric("ingress", stored, ""))
}

// assault repeats what one hostile connection does, n at a time, until the end of run.
func assault(ctx context.Context, target string, addrs []string, n int, once func(net.Conn) error, run func()) {
	ctx, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			for ctx.Err() == nil {
				conn, err := from(addrs[i%len(addrs)])(ctx, "tcp", target)
				if err != nil {
					continue
				}
				ended := context.AfterFunc(ctx, func() { conn.Close() })
				_ = once(conn)
				ended()
				_ = conn.(*net.TCPConn).SetLinger(0) // or the ports are used up
				conn.Close()
			}
		})
	}
	run()
	stop()
	all.Wait()
}

func hang(conn net.Conn) error {
	_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	_, err := io.Copy(io.Discard, conn)
	return err
}

// share posts signed webhooks for a while and returns how many of them got 200.
func (s *stack) share(client *http.Client, url string, n int) (good int) {
	s.Helper()
	for i := range n {
		body := bodyOf(event("9130000000000001", "Invoice", fmt.Sprint(i), "updated", time.Now()))
		a, err := try(s.Context(), client, http.MethodPost, url, bytes.NewReader(body), webhook.SignatureHeader, webhook.Sign(body, productionToken))
		if err == nil && a.status == http.StatusOK {
			good++
		}
	}
	return good
}

// Nine connections that send bodies leave room for the signed ones.
func (s *stack) unsignedBodies() {
	const most = 8 << 20
	part := strings.Repeat(" ", 64<<10)
	for what, header := range map[string]string{
		"no signature":         "",
		"one that may be real": "intuit-signature: " + webhook.Sign([]byte("x"), "wrong") + "\r\n",
	} {
		var sent atomic.Int64
		head := fmt.Sprintf("POST /webhooks/production HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n", header, most)
		once := func(conn net.Conn) error {
			if _, err := io.WriteString(conn, head); err != nil {
				return err
			}
			for n := 0; n < most/2+8<<10; n += len(part) {
				if _, err := io.WriteString(conn, part); err != nil {
					return err
				}
			}
			sent.Add(1)
			return hang(conn)
		}
		client := s.client(intuits)
		url := "http://" + s.listen["ingress"] + "/webhooks/production"
		assault(s.Context(), s.listen["ingress"], []string{attacker}, 9, once, func() {
			<-time.After(time.Second) // until all of them hold what they can
			good := s.share(client, url, 200)
			require.GreaterOrEqual(s, good, 198, "%s: of 200, with %d bodies held", what, sent.Load())
		})
	}
}

// Seventy-five slow senders leave at least half of sixty places.
func (s *stack) slowSenders() {
	s.run("small", "ingress", nil, map[string]string{"INGRESS_MAX_CONNECTIONS": "60"})
	s.ready("small")
	head := "POST /webhooks/production HTTP/1.1\r\nHost: x\r\n"
	signature := "intuit-signature: " + webhook.Sign([]byte("x"), "wrong") + "\r\n"
	many := make([]string, 75)
	for i := range many {
		many[i] = fmt.Sprint("127.0.3.", 1+i)
	}
	// Intuit has sent from these before.
	for i := range 7 {
		require.Equal(s, 1, s.share(s.client(fmt.Sprint("127.0.1.", 1+i)), "http://"+s.listen["small"]+"/webhooks/production", 1))
	}
	for _, tc := range []struct {
		name, beginning string
		addrs           []string
	}{
		{"silent", "", []string{attacker}},
		{"headers that do not end", head + "X: x\r\n", []string{attacker}},
		{"no body", head + signature + "Content-Length: 1000\r\n\r\n", []string{attacker}},
		{"no body, unsigned", head + "Content-Length: 1000\r\n\r\n", []string{attacker}},
		{"no body, from everywhere", head + signature + "Content-Length: 1000\r\n\r\n", many},
	} {
		once := func(conn net.Conn) error {
			if _, err := io.WriteString(conn, tc.beginning); err != nil {
				return err
			}
			return hang(conn)
		}
		assault(s.Context(), s.listen["small"], tc.addrs, 75, once, func() {
			<-time.After(500 * time.Millisecond) // until they have what they can get
			s.takeHalf(tc.name)
		})
	}
}

// takeHalf opens thirty connections from several addresses, sends a webhook on each, and
// keeps them.
func (s *stack) takeHalf(what string) {
	s.Helper()
	for i := range 30 {
		conn, err := from(fmt.Sprint("127.0.1.", 1+i%7))(s.Context(), "tcp", s.listen["small"])
		require.NoError(s, err, what)
		defer conn.Close()
		body := bodyOf(event("9130000000000001", "Invoice", fmt.Sprint(i), "updated", time.Now()))
		_, err = fmt.Fprintf(conn, "POST /webhooks/production HTTP/1.1\r\nHost: x\r\n%s: %s\r\nContent-Length: %d\r\n\r\n%s",
			webhook.SignatureHeader, webhook.Sign(body, productionToken), len(body), body)
		require.NoError(s, err, what)
		require.NoError(s, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(s, err, "%s: place %d", what, i)
		resp.Body.Close()
		require.Equal(s, http.StatusOK, resp.StatusCode, "%s: place %d", what, i)
	}
}

// Beyond loopback the admin endpoint has no profiles.
func (s *stack) adminPaths() {
	addr := s.free()
	_, port, err := net.SplitHostPort(addr)
	require.NoError(s, err)
	s.run("open-admin", "ingress", nil, map[string]string{"ADMIN_LISTEN": "0.0.0.0:" + port})
	require.Eventually(s, func() bool { return s.status("http://"+addr+"/livez") == http.StatusOK }, patience, 20*time.Millisecond)
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/cmdline", "/debug/pprof/profile?seconds=1", "/debug/pprof/trace?seconds=1"} {
		require.Equal(s, http.StatusNotFound, s.status("http://"+addr+path), path)
		// On loopback a page in a browser of this machine gets none, whatever its name leads to.
		a := s.send(s.client("127.0.0.1"), http.MethodGet, "http://"+s.admin["ingress"]+path, nil, "Host", "evil.example")
		require.Equal(s, http.StatusMisdirectedRequest, a.status, path)
	}
}

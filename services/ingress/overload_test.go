package ingress_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/services/ingress"
)

const (
	slowSenders = 10_000
	inFlight    = 5_000
)

// bounded are settings whose bound leaves little room beside the connections, as
// the program's environment and as what it makes of it.
func bounded(connections, requests int) (environ []string, c ingress.IngressConfig) {
	c = ingress.DefaultIngressConfig()
	c.MaxConnections, c.MaxInFlight, c.MaxBody, c.MaxInFlightBytes = connections, requests, 1<<20, 20<<20
	return []string{
		fmt.Sprint("LEDGERFEED_INGRESS_MAX_CONNECTIONS=", c.MaxConnections),
		fmt.Sprint("LEDGERFEED_INGRESS_MAX_IN_FLIGHT=", c.MaxInFlight),
		fmt.Sprint("LEDGERFEED_INGRESS_MAX_BODY=", c.MaxBody),
		fmt.Sprint("LEDGERFEED_INGRESS_MAX_IN_FLIGHT_BYTES=", c.MaxInFlightBytes),
	}, c
}

// I9: the memory of ten thousand senders that are slow in every way stays within
// the stated bound, and Intuit gets its 200s all the time.
func TestOverload_SlowSendersLeaveRoomForIntuit(t *testing.T) {
	requireFiles(t, slowSenders+1000)
	environ, config := bounded(slowSenders, 64)
	p := startProgram(t, devtest.StartNATS(t, devserver.NATSOptions{}).URL(), environ...)
	idle := p.resident()
	// All of them come from Intuit's own address, as behind a proxy that is not listed:
	// a stranger's share would end most of them.
	status, _ := post(t, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, p.addr, event("1", "first"))
	require.Equal(t, 200, status)

	ctx, stop := context.WithCancel(context.Background())
	var slow sync.WaitGroup
	defer slow.Wait()
	defer stop()
	head := "POST /webhooks/demo HTTP/1.1\r\nHost: x\r\n"
	for i := range slowSenders {
		switch i % 10 {
		case 0, 1: // no byte
			slow.Go(func() { sendSlowly(ctx, p.addr, "", "") })
		case 2, 3: // headers without an end
			slow.Go(func() { sendSlowly(ctx, p.addr, head, "X: x\r\n") })
		case 4: // a body of many small parts
			slow.Go(func() {
				sendSlowly(ctx, p.addr, head+webhook.SignatureHeader+": "+plausible+"\r\nContent-Length: 100000\r\n\r\n[", " ")
			})
		default: // silent behind an answer
			slow.Go(func() { sendSlowly(ctx, p.addr, head+"Content-Length: 0\r\n\r\n", "") })
		}
	}
	var most int64
	var slowest time.Duration
	require.Eventually(t, func() bool {
		most = max(most, p.resident())
		return p.metric("ledgerfeed_ingress_connections") > slowSenders*95/100
	}, time.Minute, 20*time.Millisecond)
	// All of them may have come within the grace in which none gives way: a new
	// connection is then refused, which Intuit repeats.
	<-time.After(1500 * time.Millisecond)
	stood := watch(t)
	kept, fresh := &http.Client{Transport: &http.Transport{}}, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	defer kept.CloseIdleConnections()
	// Longer than the header timeout: every slow sender is ended once and comes again.
	for i, end := 0, time.Now().Add(8*time.Second); time.Now().Before(end); i++ {
		client := kept
		if i%2 == 0 {
			client = fresh
		}
		before := stood.total()
		status, took := post(t, client, p.addr, event("1", fmt.Sprint(i)))
		took -= stood.total() - before
		require.Equal(t, 200, status)
		require.Less(t, took, intuitsPatience)
		slowest = max(slowest, took)
		most = max(most, p.resident())
		<-time.After(pause)
	}
	t.Logf("%.0f connections in the end: %d MiB idle, %d MiB at most of %d MiB; slowest answer %s",
		p.metric("ledgerfeed_ingress_connections"), idle>>20, most>>20, config.MemoryBound()>>20, slowest.Round(time.Millisecond))
	require.Less(t, most, config.MemoryBound())
}

// sendSlowly opens a connection, sends a beginning and then something more now
// and then, and does so again when it is closed.
func sendSlowly(ctx context.Context, addr, beginning, more string) {
	var d net.Dialer
	answer := make([]byte, 512)
	for ctx.Err() == nil {
		conn, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			continue
		}
		_, err = io.WriteString(conn, beginning)
		for err == nil && ctx.Err() == nil {
			_ = conn.SetReadDeadline(time.Now().Add(time.Second))
			if _, err = conn.Read(answer); errors.Is(err, os.ErrDeadlineExceeded) {
				_, err = io.WriteString(conn, more)
			}
		}
		_ = conn.(*net.TCPConn).SetLinger(0) // or the ports of thousands are used up
		conn.Close()
	}
}

func post(t *testing.T, client *http.Client, addr string, body []byte) (status int, took time.Duration) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, "http://"+addr+"/webhooks/demo", bytes.NewReader(body))
	require.NoError(t, err)
	req.Header.Set(webhook.SignatureHeader, webhook.Sign(body, oldToken))
	began := time.Now()
	resp, err := client.Do(req)
	require.NoError(t, err)
	resp.Body.Close()
	return resp.StatusCode, time.Since(began)
}

// What a request costs that waits for the broker, on a connection of its own.
func TestOverload_RequestsThatWaitStayWithinTheBound(t *testing.T) {
	requireFiles(t, inFlight+1000)
	proxy := devtest.NewProxy(t, devtest.StartNATS(t, devserver.NATSOptions{}).Addr())
	environ, config := bounded(inFlight, inFlight)
	p := startProgram(t, "nats://"+proxy.Addr(), environ...)
	idle := p.resident()
	status, _ := post(t, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, p.addr, event("1", "first"))
	require.Equal(t, 200, status, "from now on the address is known, and not limited")
	conns := make([]net.Conn, inFlight)
	for i := range conns {
		var err error
		conns[i], err = net.Dial("tcp", p.addr)
		require.NoError(t, err)
		defer conns[i].Close()
	}
	proxy.Mute()
	for i, conn := range conns {
		body := tenEvents(i)
		_, err := fmt.Fprintf(conn, "POST /webhooks/demo HTTP/1.1\r\nHost: x\r\n%s: %s\r\nContent-Length: %d\r\n\r\n%s",
			webhook.SignatureHeader, webhook.Sign(body, oldToken), len(body), body)
		require.NoError(t, err)
	}
	// On a slow machine the first are answered before the last are sent.
	var most, waiting int64
	require.Eventually(t, func() bool {
		n := int64(p.metric("ledgerfeed_ingress_in_flight"))
		most, waiting = max(most, p.resident()), max(waiting, n)
		return n == inFlight || n < waiting
	}, time.Minute, 5*time.Millisecond)
	proxy.Unmute()
	answers := map[string]int{}
	for _, conn := range conns {
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		status := make([]byte, len("HTTP/1.1 200"))
		_, err := io.ReadFull(conn, status)
		require.NoError(t, err)
		answers[string(status)]++
	}
	most = max(most, p.resident())
	t.Logf("%d requests in flight: %d MiB idle, %d MiB at most of %d MiB, %d bytes each; %v",
		waiting, idle>>20, most>>20, config.MemoryBound()>>20, (most-idle)/waiting, answers)
	require.Less(t, most, config.MemoryBound())
	require.Equal(t, inFlight, answers["HTTP/1.1 200"]+answers["HTTP/1.1 503"])
}

// tenEvents is a body of two realms, unlike that of another number.
func tenEvents(n int) []byte {
	var b bytes.Buffer
	for i := range 10 {
		e := event(fmt.Sprint("934145300000000", i%2), fmt.Sprint(n, "-", i))
		fmt.Fprintf(&b, "%c%s", "[,"[min(i, 1)], e[1:len(e)-1])
	}
	b.WriteByte(']')
	return b.Bytes()
}

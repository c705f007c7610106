package bench_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
)

// inFlight is how many requests wait for the broker at the same time.
const inFlight = 5000

// memory is the resident memory of a process with so many requests in flight.
type memory struct {
	Contender string  `json:"contender"`
	InFlight  int     `json:"in_flight"`
	IdleMiB   float64 `json:"idle_mib"`
	// ConnectedMiB is with the connections, before their requests.
	ConnectedMiB float64 `json:"connected_mib"`
	MiB          float64 `json:"mib"`      // highest while they wait
	PeakMiB      float64 `json:"peak_mib"` // highest ever, as the kernel saw it
}

// memory measures the ingress, and bare, with that many requests on as many
// connections, each waiting for the broker's answer, which a proxy holds back; and
// net/http with a handler that only waits, which is what those connections take
// whatever is done with them.
// Only a measurement counts in which all of them were answered 200 in the end:
// in the others, some were not in flight when the memory was read.
func (r *report) memory(b *bench) {
	n, tries := inFlight, 5
	if smoke() {
		n = 200
	}
	broker := startBroker(b.t, relaxed)
	for _, name := range []string{"ledgerfeed", "bare", "empty"} {
		if !wanted(name) {
			continue
		}
		for try := 1; ; try++ {
			m, answered := waiting(b, broker, name, n)
			if answered == n {
				r.Memory = append(r.Memory, m)
				b.t.Logf("%s: %.1f MiB idle, %.1f MiB with %d requests in flight", name, m.IdleMiB, m.MiB, n)
				break
			}
			b.t.Logf("%s: only %d of %d requests were in flight together", name, answered, n)
			require.Less(b.t, try, tries, "the machine is too busy to hold %d requests within the budget", n)
			require.NoError(b.t, interrupted.Err())
		}
	}
	broker.stop()
}

// waiting measures a fresh process of name with n requests in flight and returns
// how many of them were answered 200.
func waiting(b *bench, broker *broker, name string, n int) (memory, int) {
	u, err := url.Parse(broker.url)
	require.NoError(b.t, err)
	proxy := devtest.NewProxy(b.t, u.Host)
	behind := "nats://" + proxy.Addr()
	var c *child
	before := broker.last(eventStream)
	reached := func() bool { return broker.last(eventStream) == before+int64(n*realms) }
	switch name {
	case "bare":
		c = startChild(b.t, "bare", "BENCH_NATS="+behind, "BENCH_SAMPLE="+sample(b.t))
	case "empty":
		c = startChild(b.t, "empty")
	default:
		c = broker.ingress(b.binary, behind, 2*n)
		// It bounds what is on its way to the broker: not all of it gets there.
		reached = func() bool { return gauge(c, "ledgerfeed_ingress_in_flight") == fmt.Sprint(n) }
	}
	defer c.stop()
	m := memory{Contender: name, InFlight: n, IdleMiB: c.memory("VmRSS")}
	proxy.Mute()
	defer proxy.Unmute()
	conns := connect(b.t, c.says[0], n)
	m.ConnectedMiB = c.memory("VmRSS")
	sendAll(b.t, conns)
	// The highest of half a second: what a collection frees comes again.
	for until := time.Now().Add(2 * time.Second); time.Now().Before(until) && !reached(); {
		time.Sleep(5 * time.Millisecond)
	}
	for until := time.Now().Add(500 * time.Millisecond); time.Now().Before(until); {
		m.MiB = max(m.MiB, c.memory("VmRSS"))
		time.Sleep(10 * time.Millisecond)
	}
	if *profiles && name == "ledgerfeed" && !smoke() {
		c.profileMemory(b.t)
	}
	proxy.Unmute()
	answered := 0
	for _, conn := range conns {
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		status := make([]byte, len("HTTP/1.1 200"))
		if _, err := io.ReadFull(conn, status); err == nil && string(status) == "HTTP/1.1 200" {
			answered++
		}
		conn.Close()
	}
	m.PeakMiB = c.memory("VmHWM")
	return m, answered
}

func connect(t *testing.T, addr string, n int) []net.Conn {
	t.Helper()
	conns := make([]net.Conn, n)
	for i := range conns {
		conn, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		conns[i] = conn
	}
	return conns
}

// sendAll sends a request on each connection.
func sendAll(t *testing.T, conns []net.Conn) {
	t.Helper()
	body := sample(t)
	for i, conn := range conns {
		// Bodies that differ, by blanks at their end: one that was stored before is
		// not waited for.
		own := body + strings.NewReplacer("0", " ", "1", "\t").Replace(fmt.Sprintf("%016b", i))
		_, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nintuit-signature: %s\r\nContent-Length: %d\r\n\r\n%s",
			path, webhook.Sign([]byte(own), verifierToken), len(own), own)
		require.NoError(t, err)
	}
}

// gauge is a metric without labels of a service.
func gauge(c *child, name string) string {
	resp, err := http.Get("http://" + c.admin() + "/metrics")
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

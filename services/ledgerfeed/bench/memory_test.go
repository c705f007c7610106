package bench_test

import (
	"fmt"
	"io"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
)

// inFlight is how many requests wait for the broker at the same time.
const inFlight = 5000

// memory measures the resident memory of the ingress, and of bare, with that
// many requests on as many connections, each waiting for the broker's answer,
// which a proxy holds back.
func (r *report) memory(t *testing.T, binary string) {
	t.Helper()
	dir := diskDir(t)
	broker := startChild(t, "broker", "BENCH_SYNC=", "BENCH_DIR="+dir)
	address, monitor := "", ""
	_, err := fmt.Sscan(broker.addr, &address, &monitor)
	require.NoError(t, err)
	u, err := url.Parse(address)
	require.NoError(t, err)
	for _, name := range []string{"ledgerfeed", "bare"} {
		if !wanted(name) {
			continue
		}
		proxy := devtest.NewProxy(t, u.Host)
		var c *child
		if name == "bare" {
			c = startChild(t, "bare", "BENCH_NATS=nats://"+proxy.Addr(), "BENCH_SAMPLE="+sample(t))
		} else {
			c = startIngress(t, binary, "nats://"+proxy.Addr(), monitor, relaxed, 2*inFlight)
		}
		m := memory{Contender: name, InFlight: inFlight, IdleMiB: c.memory("VmRSS")}
		proxy.Mute()
		body := sample(t)
		request := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nintuit-signature: %s\r\nContent-Length: %d\r\n\r\n%s",
			path, webhook.Sign([]byte(body), verifierToken), len(body), body)
		conns := make([]net.Conn, inFlight)
		for i := range conns {
			conns[i], err = net.Dial("tcp", c.addr)
			require.NoError(t, err)
		}
		for _, conn := range conns {
			_, err = io.WriteString(conn, request)
			require.NoError(t, err)
		}
		time.Sleep(500 * time.Millisecond) // within the ingress's budget of 2.5 s
		m.MiB = c.memory("VmRSS")
		r.Memory = append(r.Memory, m)
		t.Logf("%s: %.1f MiB idle, %.1f MiB with %d requests in flight", name, m.IdleMiB, m.MiB, inFlight)
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
		require.Equal(t, inFlight, answered, "%s: some were not in flight any more when the memory was read", name)
		c.stop()
	}
}

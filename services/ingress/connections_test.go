package ingress_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/certificate/certificatetest"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/services/ingress"
)

// open opens a connection and sends a beginning.
func (b *bundle) open(beginning string) net.Conn {
	b.t.Helper()
	conn, err := net.Dial("tcp", b.server.Addr())
	require.NoError(b.t, err)
	b.t.Cleanup(func() { conn.Close() })
	_, err = io.WriteString(conn, beginning)
	require.NoError(b.t, err)
	return conn
}

func (b *bundle) requireOpen(n float64) {
	b.t.Helper()
	require.Eventually(b.t, func() bool { return b.metric("ledgerfeed_ingress_connections") == n }, 20*time.Second, 2*time.Millisecond)
}

// ended waits for the other side to close, and returns what it said before.
func ended(t *testing.T, conn net.Conn) string {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
	said, err := io.ReadAll(conn)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	return string(said)
}

func TestConnections_TheSilentGiveWay(t *testing.T) {
	b := setup(t, configured(func(c *ingress.IngressConfig) { c.MaxConnections = 3 }))
	oldest := b.open("")
	b.requireOpen(1)
	dribbles := b.open("POST /webhooks/demo HTTP/1.1\r\nHost: x\r\n")
	b.requireOpen(2)
	require.Equal(t, 200, b.post(event("1", "1"), oldToken).status)
	b.requireOpen(3) // the client keeps its own
	kept := b.client
	for _, silent := range []net.Conn{oldest, dribbles} {
		b.client = &http.Client{Transport: &http.Transport{}}
		t.Cleanup(b.client.CloseIdleConnections)
		// As soon as the grace is over.
		require.Eventually(t, func() bool {
			a, err := b.send(b.request(event("1", "2"), oldToken))
			return err == nil && a.status == 200
		}, 20*time.Second, 20*time.Millisecond)
		require.Equal(t, 200, b.sendBy(kept), "one that is used gives not way")
		require.Empty(t, ended(t, silent))
	}
	require.EqualValues(t, 2, b.metric("ledgerfeed_ingress_connections_full_total", "outcome", "replaced"))
	b.requireOpen(3)
}

func (b *bundle) sendBy(client *http.Client) int {
	b.t.Helper()
	before := b.client
	defer func() { b.client = before }()
	b.client = client
	return b.post(event("1", "3"), oldToken).status
}

func TestConnections_TheBusyDoNotAndTheNewOneIsTold(t *testing.T) {
	h := newHeld()
	b := setup(t, h.with(), configured(func(c *ingress.IngressConfig) { c.MaxConnections = 2 }))
	answers := make(chan int, 2)
	for range 2 {
		go func() {
			a, _ := b.send(b.request(event("1", "1"), oldToken))
			answers <- a.status
		}()
		<-h.arrived
	}
	for range 3 {
		a := b.post(event("1", "2"), oldToken)
		require.Equal(t, 503, a.status)
		require.True(t, a.closed)
		requireChosenText(t, 503, a)
	}
	require.EqualValues(t, 3, b.metric("ledgerfeed_ingress_connections_full_total", "outcome", "refused"))
	close(h.release)
	require.Equal(t, 200, <-answers)
	require.Equal(t, 200, <-answers)
	require.Equal(t, 200, b.post(event("1", "2"), oldToken).status)
}

func TestConnections_AreCountedOverTLSToo(t *testing.T) {
	a := certificatetest.New(t)
	b := setupTLS(t, a, a.Leaf(time.Now().Add(-day), time.Now().Add(90*day)), configured(func(c *ingress.IngressConfig) { c.MaxConnections = 1 }))
	got, err := b.send(secure(b.request(event("1", "1"), oldToken)))
	require.NoError(t, err)
	require.Equal(t, 200, got.status)
	b.requireOpen(1)
	require.Empty(t, ended(t, b.open("")), "there is no handshake to say it by")
	require.EqualValues(t, 1, b.metric("ledgerfeed_ingress_connections_full_total", "outcome", "refused"))
	require.Eventually(t, func() bool {
		b.client.CloseIdleConnections() // it may not be idle yet
		return b.metric("ledgerfeed_ingress_connections") == 0
	}, 20*time.Second, 10*time.Millisecond)
}

const (
	long  = time.Hour
	short = 200 * time.Millisecond
)

// timed is a server with other timeouts.
func timed(t *testing.T, header, idle, write time.Duration) *bundle {
	t.Helper()
	b := prepare(t, devtest.NATS(t), nil)
	b.server.SetTimeouts(header, idle, write)
	b.run()
	return b
}

// A sender without a byte, and one whose headers do not end.
func TestTimeout_Headers(t *testing.T) {
	b := timed(t, short, long, long)
	require.Empty(t, ended(t, b.open("")))
	dribbles := b.open("POST /webhooks/demo HTTP/1.1\r\n")
	var stop atomic.Bool
	t.Cleanup(func() { stop.Store(true) })
	go func() {
		for !stop.Load() {
			if _, err := io.WriteString(dribbles, "X: x\r\n"); err != nil {
				return
			}
			<-time.After(short / 10)
		}
	}()
	require.Empty(t, ended(t, dribbles), "a byte now and then does not prolong it")
	b.requireOpen(0)
}

func TestTimeout_Idle(t *testing.T) {
	b := timed(t, long, short, long)
	conn := b.open("")
	require.NoError(t, b.request(event("1", "1"), "wrong").Write(conn))
	require.Contains(t, ended(t, conn), "401 Unauthorized")
	b.requireOpen(0)
}

// A sender that sends requests and reads no answers fills the socket's buffers.
func TestTimeout_AnswerThatIsNotRead(t *testing.T) {
	b := prepare(t, devtest.NATS(t), nil)
	b.server.SetTimeouts(long, long, short)
	b.server.ShrinkBuffers() // or it takes thousands of answers
	b.run()
	conn := b.open("")
	require.NoError(t, conn.(*net.TCPConn).SetReadBuffer(4<<10))
	var request bytes.Buffer
	require.NoError(t, b.request(nil, "").Write(&request))
	many := bytes.Repeat(request.Bytes(), 1000)
	require.NoError(t, conn.SetWriteDeadline(time.Now().Add(60*time.Second)))
	var err error
	for err == nil {
		_, err = conn.Write(many)
	}
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the server waits for ever")
	b.requireOpen(0)
}

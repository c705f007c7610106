package chaos

import (
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// echo says what it hears.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return l.Addr().String()
}

func startProxy(t *testing.T) *proxy {
	t.Helper()
	p, err := newProxy(t.Context(), "test", echo(t))
	require.NoError(t, err)
	p.start()
	t.Cleanup(p.close)
	return p
}

type caller struct {
	t *testing.T
	net.Conn
}

func call(t *testing.T, p *proxy) caller {
	t.Helper()
	conn, err := net.Dial("tcp", p.addr())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return caller{t, conn}
}

func (c caller) say(text string) {
	c.t.Helper()
	_, err := io.WriteString(c, text)
	require.NoError(c.t, err)
}

func (c caller) hear(want string) {
	c.t.Helper()
	require.NoError(c.t, c.SetReadDeadline(time.Now().Add(20*time.Second)))
	got := make([]byte, len(want))
	_, err := io.ReadFull(c, got)
	require.NoError(c.t, err)
	require.Equal(c.t, want, string(got))
}

func (c caller) hearNothing() {
	c.t.Helper()
	require.NoError(c.t, c.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, err := c.Read(make([]byte, 1))
	require.ErrorIs(c.t, err, os.ErrDeadlineExceeded)
}

func (c caller) hearEnd() {
	c.t.Helper()
	require.NoError(c.t, c.SetReadDeadline(time.Now().Add(20*time.Second)))
	_, err := io.Copy(io.Discard, c)
	require.NotErrorIs(c.t, err, os.ErrDeadlineExceeded)
}

func TestProxy_SeversAndHeals(t *testing.T) {
	p := startProxy(t)
	c := call(t, p)
	c.say("a")
	c.hear("a")
	p.sever()
	c.hearEnd()
	call(t, p).hearEnd()
	p.heal()
	c = call(t, p)
	c.say("b")
	c.hear("b")
}

func TestProxy_IsDeafAndSaysItLater(t *testing.T) {
	p := startProxy(t)
	c := call(t, p)
	p.deafen()
	c.say("a")
	c.hearNothing()
	p.heal()
	c.hear("a")
}

func TestProxy_ForsakesTheConnectionsThereAre(t *testing.T) {
	p := startProxy(t)
	c := call(t, p)
	c.say("a")
	c.hear("a")
	p.forsake()
	c.say("b")
	c.hearNothing()
	other := call(t, p)
	other.say("c")
	other.hear("c")
	p.heal()
	c.hearEnd()
}

func TestProxy_PassesHalfOn(t *testing.T) {
	p := startProxy(t)
	c := call(t, p)
	p.truncate()
	c.say("abcd")
	c.hearEnd()
	p.heal()
	c = call(t, p)
	c.say("e")
	c.hear("e")
}

func TestProxy_IsSlow(t *testing.T) {
	p := startProxy(t)
	c := call(t, p)
	p.slow(50 * time.Millisecond)
	begun := time.Now()
	c.say("a")
	c.hear("a")
	require.GreaterOrEqual(t, time.Since(begun), 100*time.Millisecond)
}

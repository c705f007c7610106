package faultproxy_test

import (
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/faultproxy"
)

// echo is a server that says what it hears, and tells what it heard.
type echo struct {
	net.Listener
	heard chan string
}

func newEcho(t *testing.T) *echo {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	e := &echo{l, make(chan string, 100)}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				buf := make([]byte, 100)
				for {
					n, err := conn.Read(buf)
					if err != nil {
						return
					}
					e.heard <- string(buf[:n])
					if _, err := conn.Write(buf[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	return e
}

func start(t *testing.T, target string) *faultproxy.Proxy {
	t.Helper()
	p, err := faultproxy.Start(t.Context(), target, nil)
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return p
}

type caller struct {
	t *testing.T
	net.Conn
}

func call(t *testing.T, p *faultproxy.Proxy) caller {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
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

// hearNothing looks for a moment: on a slow machine it sees less, it never fails.
func (c caller) hearNothing() {
	c.t.Helper()
	require.NoError(c.t, c.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, err := c.Read(make([]byte, 1))
	require.ErrorIs(c.t, err, os.ErrDeadlineExceeded)
}

func (c caller) hearEnd() {
	c.t.Helper()
	require.NoError(c.t, c.SetReadDeadline(time.Now().Add(20*time.Second)))
	_, err := c.Read(make([]byte, 1))
	require.Error(c.t, err)
	require.NotErrorIs(c.t, err, os.ErrDeadlineExceeded)
}

func TestProxy_MuteHoldsBackTheAnswer(t *testing.T) {
	e := newEcho(t)
	p := start(t, e.Addr().String())
	c := call(t, p)
	p.Mute()
	c.say("a")
	require.Equal(t, "a", <-e.heard)
	c.hearNothing()
	p.Unmute()
	c.hear("a")
}

func TestProxy_StallHoldsBackBothDirections(t *testing.T) {
	e := newEcho(t)
	p := start(t, e.Addr().String())
	c := call(t, p)
	c.say("a")
	c.hear("a")
	<-e.heard
	p.Stall()
	c.say("b")
	other := call(t, p)
	other.say("c")
	c.hearNothing()
	require.Empty(t, e.heard)
	p.Unstall()
	c.hear("b")
	other.hear("c")
}

func TestProxy_HalfOpenLosesWhatIsSaidAndTellsNobody(t *testing.T) {
	e := newEcho(t)
	p := start(t, e.Addr().String())
	c := call(t, p)
	c.say("a")
	c.hear("a")
	<-e.heard
	p.HalfOpen()
	c.say("b")
	c.hearNothing()
	call(t, p).say("c")
	require.Equal(t, "c", <-e.heard, "a new connection is served, and b is lost")
	c.say("d")
	c.hearNothing()
	require.Empty(t, e.heard)
}

func TestProxy_CutAfterCountsTheBytesOfTheClient(t *testing.T) {
	e := newEcho(t)
	p := start(t, e.Addr().String())
	c := call(t, p)
	c.say("abc")
	c.hear("abc")
	<-e.heard
	p.CutAfter(4)
	c.say("de")
	c.hear("de")
	<-e.heard
	require.False(t, p.IsCut())
	c.say("fgh")
	require.Equal(t, "fg", <-e.heard)
	require.Eventually(t, p.IsCut, 20*time.Second, time.Millisecond)
	call(t, p).hearEnd()
	p.Restore()
	again := call(t, p)
	again.say("i")
	again.hear("i")
}

func TestProxy_DropEndsWhatIsThere(t *testing.T) {
	e := newEcho(t)
	p := start(t, e.Addr().String())
	c := call(t, p)
	c.say("a")
	c.hear("a")
	p.Drop()
	c.hearEnd()
	again := call(t, p)
	again.say("b")
	again.hear("b")
}

func TestProxy_SlowDelaysBothWays(t *testing.T) {
	e := newEcho(t)
	p := start(t, e.Addr().String())
	c := call(t, p)
	p.Slow(50 * time.Millisecond)
	started := time.Now()
	c.say("a")
	c.hear("a")
	require.GreaterOrEqual(t, time.Since(started), 100*time.Millisecond)
	p.Slow(0)
	c.say("b")
	c.hear("b")
}

func TestProxy_TruncatePassesHalfOn(t *testing.T) {
	e := newEcho(t)
	p := start(t, e.Addr().String())
	c := call(t, p)
	p.Truncate()
	c.say("abcd")
	require.Equal(t, "ab", <-e.heard)
	require.NoError(t, c.SetReadDeadline(time.Now().Add(20*time.Second)))
	_, err := io.Copy(io.Discard, c) // what was answered meanwhile may come before the end
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	p.Heal()
	c = call(t, p)
	c.say("e")
	c.hear("e")
}

func TestProxy_HealEndsWhatIsHalfOpenAndServesAgain(t *testing.T) {
	e := newEcho(t)
	p := start(t, e.Addr().String())
	c := call(t, p)
	c.say("a")
	c.hear("a")
	p.HalfOpen()
	c.say("b")
	c.hearNothing()
	p.Cut()
	p.Heal()
	c.hearEnd()
	c = call(t, p)
	c.say("c")
	c.hear("c")
}

type tap struct{ said, heard chan string }

func (x tap) Client(data []byte) { x.said <- string(data) }
func (x tap) Server(data []byte) { x.heard <- string(data) }

func TestProxy_ATapHearsBothSides(t *testing.T) {
	e := newEcho(t)
	x := tap{make(chan string, 9), make(chan string, 9)}
	p, err := faultproxy.Start(t.Context(), e.Addr().String(), func() faultproxy.Tap { return x })
	require.NoError(t, err)
	t.Cleanup(p.Close)
	c := call(t, p)
	c.say("a")
	c.hear("a")
	require.Equal(t, "a", <-x.said)
	require.Equal(t, "a", <-x.heard)
}

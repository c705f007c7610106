package ingress

import (
	"container/list"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// grace is how long a connection may be silent before it has to yield to a
	// new one: a sender that means it has sent its headers by then.
	grace = time.Second
	// farewell is how long a connection that is turned away may take to send a
	// request and to read why.
	farewell = 500 * time.Millisecond
	// maxFarewells bounds those; further ones are closed at once.
	maxFarewells = 128
	// otherFiles is what the process opens beside the connections.
	otherFiles = 64 + maxFarewells
	// maxLook bounds the search for a stranger that may give way.
	maxLook = 256
)

// connections bounds how many are open, and so the memory of all that are slow.
//
// With all of them taken, a new one takes the place of the one that has been
// without a request for longest, if that is longer than the grace. If there is none, the
// new one is answered 503 and closed. That alone keeps out no sender that comes again at
// once, so strangers have a share of the places only; see [peers]. A stranger beyond it
// takes the place of a silent one. To leave it in the backlog, as
// netutil.LimitListener does, would be cheaper and worse: Intuit would wait its
// three seconds for nothing, and a load balancer, to which the connection looks
// open, would not try another replica.
type connections struct {
	net.Listener
	max      int
	peers    *peers
	refusal  []byte // what a connection there is no place for is told; with TLS nothing: there is no handshake yet
	gauge    prometheus.Gauge
	refused  prometheus.Counter
	replaced prometheus.Counter

	mu        sync.Mutex // guards what follows
	open      int
	farewells int
	done      sync.WaitGroup // the farewells
	waiting   list.List      // of *connection without a request in hand, the longest first
}

// connection is a net.Conn that knows its place.
type connection struct {
	*net.TCPConn // its CloseWrite too, which the HTTP server uses
	place        *list.Element
	since        time.Time // it is waiting
	stranger     *stranger // nil: not limited
	gone         bool      // not counted any more
}

func newConnections(l net.Listener, limit int, p *peers, plain bool, r prometheus.Registerer) (*connections, error) {
	c := &connections{Listener: l, max: limit, peers: p}
	c.gauge = prometheus.NewGauge(prometheus.GaugeOpts{Name: "ledgerfeed_ingress_connections", Help: "Open connections."})
	full := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ledgerfeed_ingress_connections_full_total",
		Help: "What happened when all connections were taken: replaced (one that was silent gave way to a new one) or refused (the new one was closed).",
	}, []string{"outcome"})
	c.refused, c.replaced = full.WithLabelValues("refused"), full.WithLabelValues("replaced")
	var err error
	if plain {
		c.refusal, err = refuse(overloaded, nil).bytes()
	}
	if r != nil {
		err = errors.Join(err, r.Register(c.gauge), r.Register(full))
	}
	return c, err
}

// mayOpen is how many connections the limit of open files leaves room for; a
// server that runs into it leaves new ones in the backlog. Go has raised the soft
// limit to the hard one.
func mayOpen() int {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return math.MaxInt
	}
	return int(max(min(files.Cur, math.MaxInt32), otherFiles+1) - otherFiles)
}

// Accept returns the next connection there is a place for.
func (c *connections) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		tcp, ok := conn.(*net.TCPConn)
		if !ok {
			return nil, errors.Join(errors.New("not a TCP connection"), conn.Close())
		}
		next := &connection{TCPConn: tcp}
		if c.enter(next) {
			return next, nil
		}
		c.turnAway(next)
	}
}

// enter gives conn a place, if need be that of another.
func (c *connections) enter(conn *connection) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	one, now := usage{connections: 1}, time.Now()
	addr := addressOf(conn.RemoteAddr())
	s, why := c.peers.take(addr, one, now)
	if why != granted && c.evictLocked(now, func(v *connection) bool {
		return c.peers.limits(v.stranger) && (why == allAreIn || v.stranger.addr == addr)
	}) {
		s, why = c.peers.take(addr, one, now)
	}
	if why != granted {
		c.peers.refused(addr, one, why)
		return false
	}
	if c.open >= c.max &&
		!c.evictLocked(now, func(v *connection) bool { return c.peers.limits(v.stranger) }) &&
		!c.evictLocked(now, func(*connection) bool { return true }) {
		c.peers.give(s, one)
		return false
	}
	conn.stranger = s
	c.open++
	c.gauge.Set(float64(c.open))
	c.waitLocked(conn)
	return true
}

// evictLocked ends the connection that has been silent for longest, a grace at least, of
// those that may be ended.
func (c *connections) evictLocked(now time.Time, may func(*connection) bool) bool {
	at := c.waiting.Front()
	for range maxLook {
		if at == nil {
			return false
		}
		victim := at.Value.(*connection)
		if now.Sub(victim.since) < grace {
			return false
		}
		if may(victim) {
			c.leaveLocked(victim)
			c.replaced.Inc()
			_ = victim.Close()
			return true
		}
		at = at.Next()
	}
	return false
}

// changed is the http.Server's ConnState: a connection waits until the headers of
// a request are complete, and again after the answer.
func (c *connections) changed(nc net.Conn, state http.ConnState) {
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok { // TLS
		nc = t.NetConn()
	}
	conn, ok := nc.(*connection)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateActive:
		c.workLocked(conn)
	case http.StateIdle:
		c.workLocked(conn)
		c.waitLocked(conn)
	case http.StateClosed, http.StateHijacked:
		c.leaveLocked(conn)
	case http.StateNew: // it waits since it entered
	}
}

func (c *connections) waitLocked(conn *connection) {
	if !conn.gone {
		conn.since = time.Now()
		conn.place = c.waiting.PushBack(conn)
	}
}

func (c *connections) workLocked(conn *connection) {
	if conn.place != nil {
		c.waiting.Remove(conn.place)
		conn.place = nil
	}
}

func (c *connections) leaveLocked(conn *connection) {
	if conn.gone {
		return
	}
	conn.gone = true
	c.workLocked(conn)
	c.open--
	c.gauge.Set(float64(c.open))
	c.peers.give(conn.stranger, usage{connections: 1})
}

// turnAway tells a connection why before it closes it, if it is not one of too many.
func (c *connections) turnAway(conn *connection) {
	c.refused.Inc()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refusal == nil || c.farewells >= maxFarewells {
		_ = conn.Close()
		return
	}
	c.farewells++
	c.done.Go(func() {
		bidFarewell(conn, c.refusal)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.farewells--
	})
}

func bidFarewell(conn *connection, refusal []byte) {
	_ = conn.SetDeadline(time.Now().Add(farewell))
	// Clients take an answer that comes before their request for a mistake.
	if _, err := conn.Read(make([]byte, 512)); err == nil {
		_, _ = conn.Write(refusal)
		_ = conn.CloseWrite()
		// With bytes unread the kernel would drop the answer.
		_, _ = io.Copy(io.Discard, conn)
	}
	_ = conn.Close()
}

// wait returns when the last that was turned away is gone; within the farewell.
func (c *connections) wait() { c.done.Wait() }

// bytes is the problem as a whole answer, for a connection the HTTP server does
// not know.
func (p *problem) bytes() ([]byte, error) {
	body, err := p.body()
	return fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nRetry-After: %d\r\nConnection: close\r\n\r\n%s",
		p.status, http.StatusText(p.status), problemType, len(body), retryAfter, body), err
}

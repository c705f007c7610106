// Package faultproxy is a TCP proxy in front of a server, to break the network at a
// chosen moment: for tests and for chaos runs. It needs no privileges and changes
// nothing of the machine's network.
package faultproxy

import (
	"context"
	"net"
	"sync"
	"time"
)

// dialTimeout bounds how long a client waits for a server that takes no connection.
const dialTimeout = time.Second

// Tap hears the bytes of one connection as they are read, before they are passed on:
// those of the client and those of the server. It must not keep them.
type Tap interface {
	Client(data []byte)
	Server(data []byte)
}

// Proxy is one link to a server. Make one with Start.
type Proxy struct {
	newTap   func() Tap // nil for none
	listener net.Listener
	done     sync.WaitGroup

	mu      sync.Mutex // guards the rest, and the links
	cond    *sync.Cond
	target  string
	muted   bool
	stalled bool
	down    bool
	counted bool  // CutAfter waits for its moment
	left    int64 // bytes from clients until then
	delay   time.Duration
	short   bool // the next bytes of a link are cut in two, and it ends
	links   map[*link]struct{}
}

// link is one connection through the proxy.
type link struct {
	client, server net.Conn
	tap            Tap           // nil for none
	gone           chan struct{} // closed when it was ended
	ended          bool
	halfOpen       bool
}

// Start starts a proxy for target, a host:port, on a free port of loopback. tap makes
// what hears each connection; nil is none. Close it.
func Start(ctx context.Context, target string, tap func() Tap) (*Proxy, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{target: target, newTap: tap, listener: l, links: map[*link]struct{}{}}
	p.cond = sync.NewCond(&p.mu)
	p.done.Go(p.serve)
	return p, nil
}

// Redirect leads new connections to another target, as an endpoint does after a failover.
// Open connections stay.
func (p *Proxy) Redirect(target string) { p.set(func() { p.target = target }) }

func (p *Proxy) targetNow() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.target
}

// Addr is where clients connect to.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Mute holds back everything the server says, as if its answers were still on
// the way; what the client says arrives. Unmute lets them through.
func (p *Proxy) Mute() { p.set(func() { p.muted = true }) }

// Unmute ends Mute.
func (p *Proxy) Unmute() { p.set(func() { p.muted = false }) }

// Stall lets nothing through in either direction until Unstall; connections stay
// open, and new ones are accepted but not served.
func (p *Proxy) Stall() { p.set(func() { p.stalled = true }) }

// Unstall ends Stall. What was sent meanwhile goes on, late.
func (p *Proxy) Unstall() { p.set(func() { p.stalled = false }) }

// HalfOpen makes each connection there is one whose other end is gone without a
// word: what either side sends is lost and neither is told, for good. New
// connections are served.
func (p *Proxy) HalfOpen() {
	p.set(func() {
		for l := range p.links {
			l.halfOpen = true
		}
	})
}

// Slow delays everything that is read at once by d, in both directions, so that
// an answer takes 2×d and a large message longer. Slow(0) ends it.
func (p *Proxy) Slow(d time.Duration) { p.set(func() { p.delay = d }) }

// Cut ends every connection and refuses new ones until Restore. What Mute holds
// back is lost.
func (p *Proxy) Cut() { p.set(p.cutLocked) }

// CutAfter is Cut as soon as clients have sent n more bytes: those arrive, the
// next does not, though it may be the next of the same message.
func (p *Proxy) CutAfter(n int64) { p.set(func() { p.counted, p.left = true, n }) }

// Restore lets new connections through again.
func (p *Proxy) Restore() { p.set(func() { p.down, p.counted = false, false }) }

// Drop ends every connection and lets new ones through.
func (p *Proxy) Drop() { p.set(p.dropLocked) }

// Truncate passes half of the next bytes of each connection on and ends it, until Heal.
func (p *Proxy) Truncate() { p.set(func() { p.short = true }) }

// Heal makes it a good link again. What a half-open connection has lost stays lost: it
// ends.
func (p *Proxy) Heal() {
	p.set(func() {
		p.muted, p.stalled, p.down, p.counted, p.delay, p.short = false, false, false, false, 0, false
		for l := range p.links {
			if l.halfOpen {
				p.endLocked(l)
			}
		}
	})
}

// IsCut reports whether connections are refused: CutAfter has had its moment.
func (p *Proxy) IsCut() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.down
}

func (p *Proxy) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	p.cond.Broadcast()
}

func (p *Proxy) cutLocked() {
	p.down = true
	p.dropLocked()
}

func (p *Proxy) dropLocked() {
	for l := range p.links {
		p.endLocked(l)
	}
}

func (p *Proxy) endLocked(l *link) {
	if l.ended {
		return
	}
	l.ended = true
	close(l.gone)
	l.client.Close()
	l.server.Close()
	delete(p.links, l)
}

// Close ends every connection, and waits for all it has started.
func (p *Proxy) Close() {
	p.listener.Close()
	p.Cut()
	p.done.Wait()
}

func (p *Proxy) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		d := net.Dialer{Timeout: dialTimeout}
		server, err := d.DialContext(context.Background(), "tcp", p.targetNow())
		if err != nil {
			client.Close()
			continue
		}
		l := &link{client: client, server: server, gone: make(chan struct{})}
		if p.newTap != nil {
			l.tap = p.newTap()
		}
		p.set(func() {
			p.links[l] = struct{}{}
			if p.down {
				p.endLocked(l)
			}
		})
		p.done.Go(func() { p.pipe(l, server, client, false) })
		p.done.Go(func() { p.pipe(l, client, server, true) })
	}
}

func (p *Proxy) pipe(l *link, to, from net.Conn, answers bool) {
	defer p.set(func() { p.endLocked(l) })
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		l.hear(buf[:n], answers)
		n, then := p.admit(l, n, answers)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if then == cutAll {
			p.Cut()
		}
		if err != nil || then != goOn {
			return
		}
	}
}

func (l *link) hear(data []byte, answers bool) {
	switch {
	case l.tap == nil || len(data) == 0:
	case answers:
		l.tap.Server(data)
	default:
		l.tap.Client(data)
	}
}

// fate is what happens behind the bytes that are let through.
type fate int

const (
	goOn   fate = iota
	end         // of this connection
	cutAll      // the moment of CutAfter
)

// admit waits until n bytes may go on and returns how many of them do, and what
// happens behind them.
func (p *Proxy) admit(l *link, n int, answers bool) (admitted int, then fate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d := p.delay; d > 0 && n > 0 {
		p.waitLocked(l, d)
	}
	// Whoever is held back is not told of the other side's end either.
	for !l.ended && (p.stalled || answers && p.muted || n == 0 && l.halfOpen) {
		p.cond.Wait()
	}
	switch {
	case l.ended:
		return 0, end
	case l.halfOpen:
		return 0, goOn
	case p.short && n > 1:
		return n / 2, end
	case answers || !p.counted:
		return n, goOn
	case int64(n) < p.left:
		p.left -= int64(n)
		return n, goOn
	}
	n = int(p.left)
	p.left = 0
	return n, cutAll
}

func (p *Proxy) waitLocked(l *link, d time.Duration) {
	p.mu.Unlock()
	defer p.mu.Lock()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.gone:
	}
}

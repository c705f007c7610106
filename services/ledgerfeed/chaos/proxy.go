package chaos

import (
	"context"
	"net"
	"sync"
	"time"
)

// tap hears the bytes of one connection as they are about to be passed on, those
// of the client and those of the server.
type tap interface {
	client(data []byte)
	server(data []byte)
}

// proxy is one link: a listener in front of a server, to break the network at a
// chosen moment.
type proxy struct {
	name     string
	target   func() string // asked for each connection
	newTap   func() tap    // nil for none
	listener net.Listener
	done     sync.WaitGroup

	mu    sync.Mutex // guards the rest, and the wires
	cond  *sync.Cond
	cut   bool          // no connection is let through
	deaf  bool          // connections stay open and nothing goes through
	delay time.Duration // of everything that is read at once
	short bool          // the next bytes of a wire are cut in two, and it ends
	wires map[*wire]struct{}
}

// wire is one connection through a proxy.
type wire struct {
	client, server net.Conn
	tap            tap
	gone           chan struct{}
	ended          bool // gone is closed
	halfOpen       bool // the other end is gone without a word
}

func newProxy(ctx context.Context, name, target string) (*proxy, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{name: name, target: func() string { return target }, listener: l, wires: map[*wire]struct{}{}}
	p.cond = sync.NewCond(&p.mu)
	return p, nil
}

func (p *proxy) start() { p.done.Go(p.serve) }

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	p.cond.Broadcast()
}

// heal makes it a good link again. What a half-open wire has lost stays lost: it
// ends.
func (p *proxy) heal() {
	p.set(func() {
		p.cut, p.deaf, p.delay, p.short = false, false, 0, false
		for w := range p.wires {
			if w.halfOpen {
				p.endLocked(w)
			}
		}
	})
}

// sever ends every connection and refuses new ones.
func (p *proxy) sever() { p.set(func() { p.cut = true; p.dropLocked() }) }

// deafen lets nothing through, and tells nobody. What was sent goes on when it is
// healed.
func (p *proxy) deafen() { p.set(func() { p.deaf = true }) }

// slow delays everything that is read at once, in both directions.
func (p *proxy) slow(d time.Duration) { p.set(func() { p.delay = d }) }

// forsake loses what is sent on the connections there are, without telling
// anybody; new ones are served.
func (p *proxy) forsake() {
	p.set(func() {
		for w := range p.wires {
			w.halfOpen = true
		}
	})
}

// truncate passes half of the next bytes of each wire on and ends it, until heal.
func (p *proxy) truncate() { p.set(func() { p.short = true }) }

func (p *proxy) dropLocked() {
	for w := range p.wires {
		p.endLocked(w)
	}
}

func (p *proxy) endLocked(w *wire) {
	if w.ended {
		return
	}
	w.ended = true
	close(w.gone)
	w.client.Close()
	w.server.Close()
	delete(p.wires, w)
}

func (p *proxy) close() {
	p.listener.Close()
	p.set(func() { p.cut = true; p.dropLocked() })
	p.done.Wait()
}

func (p *proxy) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		d := net.Dialer{Timeout: time.Second}
		server, err := d.DialContext(context.Background(), "tcp", p.target())
		if err != nil {
			client.Close()
			continue
		}
		w := &wire{client: client, server: server, gone: make(chan struct{})}
		if p.newTap != nil {
			w.tap = p.newTap()
		}
		p.set(func() {
			p.wires[w] = struct{}{}
			if p.cut {
				p.endLocked(w)
			}
		})
		p.done.Go(func() { p.pass(w, server, client, false) })
		p.done.Go(func() { p.pass(w, client, server, true) })
	}
}

func (p *proxy) pass(w *wire, to, from net.Conn, answers bool) {
	defer p.set(func() { p.endLocked(w) })
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if w.tap != nil && n > 0 {
			if answers {
				w.tap.server(buf[:n])
			} else {
				w.tap.client(buf[:n])
			}
		}
		n, last, open := p.admit(w, n)
		if !open {
			return
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil || last {
			return
		}
	}
}

// admit waits until n bytes may go on, and returns how many of them do, whether
// they are the last, and whether the wire is still there.
func (p *proxy) admit(w *wire, n int) (admitted int, last, open bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d := p.delay; d > 0 && n > 0 {
		p.waitLocked(w, d)
	}
	for !w.ended && (p.deaf || n == 0 && w.halfOpen) {
		p.cond.Wait()
	}
	switch {
	case w.ended:
		return 0, true, false
	case w.halfOpen:
		return 0, false, true
	case p.short && n > 1:
		return n / 2, true, true
	}
	return n, false, true
}

func (p *proxy) waitLocked(w *wire, d time.Duration) {
	p.mu.Unlock()
	defer p.mu.Lock()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.gone:
	}
}

package devtest

import (
	"net"
	"sync"
	"testing"
)

// Proxy is a TCP proxy in front of a server, to break the network at a chosen
// moment.
type Proxy struct {
	target   string
	listener net.Listener
	done     sync.WaitGroup

	mu    sync.Mutex // guards the rest
	cond  *sync.Cond
	muted bool
	down  bool
	conns map[net.Conn]struct{}
}

// NewProxy starts a proxy for target, a host:port, that lives as long as the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("devtest: %v", err)
	}
	p := &Proxy{target: target, listener: l, conns: map[net.Conn]struct{}{}}
	p.cond = sync.NewCond(&p.mu)
	p.done.Add(1)
	go p.serve()
	t.Cleanup(p.close)
	return p
}

// Addr is where clients connect to.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Mute holds back everything the server says, as if its answers were still on
// the way; what the client says arrives. Unmute lets them through.
func (p *Proxy) Mute() { p.set(func() { p.muted = true }) }

// Unmute ends Mute.
func (p *Proxy) Unmute() { p.set(func() { p.muted = false }) }

// Cut ends every connection and refuses new ones until Restore. What Mute holds
// back is lost.
func (p *Proxy) Cut() { p.set(func() { p.down = true; p.closeConns() }) }

// Restore lets new connections through again.
func (p *Proxy) Restore() { p.set(func() { p.down = false }) }

func (p *Proxy) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	p.cond.Broadcast()
}

func (p *Proxy) closeConns() {
	for c := range p.conns {
		c.Close()
	}
}

func (p *Proxy) close() {
	p.listener.Close()
	p.Cut()
	p.done.Wait()
}

func (p *Proxy) serve() {
	defer p.done.Done()
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := dial(p.target)
		if err != nil {
			client.Close()
			continue
		}
		if !p.add(client, server) {
			continue
		}
		p.done.Add(2)
		go p.pipe(server, client, false)
		go p.pipe(client, server, true)
	}
}

func (p *Proxy) add(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		if p.down {
			c.Close()
			continue
		}
		p.conns[c] = struct{}{}
	}
	return !p.down
}

func (p *Proxy) pipe(to, from net.Conn, answers bool) {
	defer p.done.Done()
	defer p.remove(to, from)
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if answers && !p.pass(from) {
			return
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// pass waits while muted; false if the connection was cut meanwhile.
func (p *Proxy) pass(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.muted && !p.down {
		p.cond.Wait()
	}
	_, open := p.conns[c]
	return open && !p.down
}

func (p *Proxy) remove(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		c.Close()
		delete(p.conns, c)
	}
}

package console

import (
	"errors"
	"net"
	"sync"
)

const (
	// maxConnections are open at the same time; maxPeerConnections those of one address,
	// unless it is this machine's or a trusted proxy's.
	maxConnections, maxPeerConnections = 512, 64
)

// connections bounds how many are open, and with them the memory of all that are slow. One
// beyond is closed at once.
type connections struct {
	net.Listener
	trusted []*net.IPNet
	refused func()

	mu   sync.Mutex // guards what follows
	open int
	each map[string]int
}

func newConnections(l net.Listener, trustedProxies []string, refused func()) *connections {
	c := &connections{Listener: l, refused: refused, each: map[string]int{}}
	for _, cidr := range trustedProxies {
		if _, network, err := net.ParseCIDR(cidr); err == nil { // Validate has seen it
			c.trusted = append(c.trusted, network)
		}
	}
	return c
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
		key, bound := c.keyOf(conn.RemoteAddr())
		if c.enter(key, bound) {
			return &counted{TCPConn: tcp, leave: sync.OnceFunc(func() { c.leave(key) })}, nil
		}
		c.refused()
		conn.Close()
	}
}

// keyOf is whose connection it is, and whether they have a bound of their own.
func (c *connections) keyOf(addr net.Addr) (key string, bound bool) {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return "", false
	}
	for _, network := range c.trusted {
		if network.Contains(tcp.IP) {
			return "", false
		}
	}
	return peerKey(tcp.IP.String()), !tcp.IP.IsLoopback()
}

func (c *connections) enter(key string, bound bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open >= maxConnections || bound && c.each[key] >= maxPeerConnections {
		return false
	}
	c.open++
	c.each[key]++
	return true
}

func (c *connections) leave(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
	if c.each[key]--; c.each[key] == 0 {
		delete(c.each, key)
	}
}

// counted gives its place back when it is closed.
type counted struct {
	*net.TCPConn // its CloseWrite too, which the HTTP server uses
	leave        func()
}

// Close closes it.
func (c *counted) Close() error {
	defer c.leave()
	return c.TCPConn.Close()
}

package processor_test

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// gate is a way to a server that can be closed and opened again.
type gate struct {
	address, target string

	mu       sync.Mutex // guards the rest
	listener net.Listener
	conns    []net.Conn
	working  sync.WaitGroup
}

func newGate(t *testing.T, target string) *gate {
	t.Helper()
	g := &gate{address: "127.0.0.1:0", target: target}
	g.open(t)
	t.Cleanup(func() {
		g.close()
		g.working.Wait()
	})
	return g
}

func (g *gate) open(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", g.address)
	require.NoError(t, err)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.listener, g.address = l, l.Addr().String()
	g.working.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			g.pass(l, in)
		}
	})
}

func (g *gate) pass(l net.Listener, in net.Conn) {
	out, err := net.Dial("tcp", g.target)
	if err != nil {
		in.Close()
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.listener != l {
		in.Close()
		out.Close()
		return
	}
	g.conns = append(g.conns, in, out)
	for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
		g.working.Go(func() {
			io.Copy(way[0], way[1])
			way[0].Close()
			way[1].Close()
		})
	}
}

// close cuts every connection. Closing twice is safe.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.listener != nil {
		g.listener.Close()
		g.listener = nil
	}
	for _, c := range g.conns {
		c.Close()
	}
	g.conns = nil
}

package ingress

import (
	"context"
	"net"
	"time"
)

// SetTimeouts replaces the constants before Run, for tests that cannot wait so long.
func (s *Server) SetTimeouts(header, idle, write time.Duration) {
	s.http.ReadHeaderTimeout, s.http.ReadTimeout, s.http.IdleTimeout, s.http.WriteTimeout = header, header+s.config.Budget, idle, write
}

// Judge is what happens to the certificate every hour.
func (s *Server) Judge(now time.Time) { s.judge(now) }

// Break makes every request crash before its signature is checked.
func (s *Server) Break() { s.memory = nil }

// Occupy reserves n bytes of the memory for bodies.
func (s *Server) Occupy(n int64) { s.memory.reserve(n) }

// ShrinkBuffers makes the socket take few answers that are not read.
func (s *Server) ShrinkBuffers() {
	s.http.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		_ = conn.(*connection).SetWriteBuffer(4 << 10)
		return ctx
	}
}

// Strangers is how many addresses hold something and are limited.
func (s *Server) Strangers() int {
	s.peers.mu.Lock()
	defer s.peers.mu.Unlock()
	return len(s.peers.by)
}

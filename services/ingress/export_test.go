package ingress

import "time"

// SetTimeouts replaces the constants before Run, for tests that cannot wait so long.
func (s *Server) SetTimeouts(header, idle, write time.Duration) {
	s.http.ReadHeaderTimeout, s.http.ReadTimeout, s.http.IdleTimeout, s.http.WriteTimeout = header, header+s.config.Budget, idle, write
}

// Break makes every request crash before its signature is checked.
func (s *Server) Break() { s.memory = nil }

// Occupy reserves n bytes of the memory for bodies.
func (s *Server) Occupy(n int64) { s.memory.reserve(n) }

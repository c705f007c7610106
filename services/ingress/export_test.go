package ingress

import "time"

// SetTimeouts replaces the constants before Run, for tests that cannot wait so long.
func (s *Server) SetTimeouts(header, idle, write time.Duration) {
	s.http.ReadHeaderTimeout, s.http.ReadTimeout, s.http.IdleTimeout, s.http.WriteTimeout = header, header+s.config.Budget, idle, write
}

package console

import (
	"net"
	"net/http"
	"net/netip"
	"sync"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

// The outcomes of a login.
const (
	loginOK     = "ok"
	loginFailed = "failed"
	// loginLimited is a failure beyond the limit of its peer.
	loginLimited = "limited"
	// loginRefused: known to the issuer, and without a role here.
	loginRefused = "refused"
	loggedOut    = "logout"
)

// The ways to log in.
const (
	byTokenForm = "token"
	byBearer    = "bearer"
	byOIDC      = "oidc"
)

// loginEvent is a login, an attempt at one, or a logout.
type loginEvent struct {
	Outcome string
	Method  string
	Who     string // empty where nobody is known
	Role    role
	Reason  string // of a failure, for the log
}

// recordLogin is told of every login, failed login and logout, once. A bearer token that
// is right counts as none: each request brings it.
func (s *Server) recordLogin(c echo.Context, e loginEvent) {
	s.metrics.logins.WithLabelValues(e.Method, e.Outcome).Inc()
	fields := []zap.Field{zap.String("method", e.Method), zap.String("outcome", e.Outcome), zap.String("peer", s.peer(c))}
	if e.Who != "" {
		fields = append(fields, zap.String("who", e.Who), zap.Stringer("role", e.Role))
	}
	if e.Reason != "" {
		fields = append(fields, zap.String("reason", e.Reason))
	}
	switch e.Outcome {
	case loginFailed, loginRefused:
		s.log.Warn("login failed", fields...)
	case loginLimited:
		s.log.Debug("login failed", fields...) // one peer cannot fill the log
	case loggedOut:
		s.log.Info("logout", fields...)
	default:
		s.log.Info("login", fields...)
	}
	s.noteLogin(c, e)
}

// noteLogin puts it into the trail of actions.
func (s *Server) noteLogin(c echo.Context, e loginEvent) {
	what, id := "login", identity{Who: e.Who, Role: e.Role}
	switch e.Outcome {
	case loginOK:
		s.noteAs(c, id, what, "done")
	case loggedOut:
		s.noteAs(c, id, "logout", "done")
	default:
		if e.Who != "" {
			what += " of " + e.Who
		}
		s.refused(c, what, e.Reason)
	}
}

// wrongCredential records a wrong credential. It returns the answer to a peer that has sent too
// many of them, else nil. What is right is never refused: it does not come here.
func (s *Server) wrongCredential(c echo.Context, method, reason string) error {
	e := loginEvent{Outcome: loginFailed, Method: method, Reason: reason}
	if !s.failures.allow(s.peer(c)) {
		e.Outcome = loginLimited
	}
	s.recordLogin(c, e)
	if e.Outcome == loginLimited {
		return problem(http.StatusTooManyRequests, "Too many failed logins", "Wait some seconds and try again.")
	}
	return nil
}

// peer is the address of who sent the request.
func (s *Server) peer(c echo.Context) string { return c.RealIP() }

// peers believes X-Forwarded-For only from the proxies that were named: anybody can write
// that header.
func peers(trusted []string) echo.IPExtractor {
	if len(trusted) == 0 {
		return echo.ExtractIPDirect()
	}
	trust := []echo.TrustOption{echo.TrustLoopback(false), echo.TrustLinkLocal(false), echo.TrustPrivateNet(false)}
	for _, cidr := range trusted {
		if _, network, err := net.ParseCIDR(cidr); err == nil { // Validate has seen it
			trust = append(trust, echo.TrustIPRange(network))
		}
	}
	return echo.ExtractIPFromXFFHeader(trust...)
}

const (
	// Failed logins a second and at once, of one peer.
	failRate, failBurst = 1, 10
	// maxPeers bounds the memory of the limits.
	maxPeers = 10_000
)

// failures limits failed logins, for each peer by itself.
type failures struct {
	mu    sync.Mutex // guards peers
	peers map[string]*rate.Limiter
}

func newFailures() *failures { return &failures{peers: map[string]*rate.Limiter{}} }

// allow counts a failure of a peer, and reports whether it is within the limit.
func (f *failures) allow(peer string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := peerKey(peer)
	l := f.peers[key]
	if l == nil {
		if len(f.peers) >= maxPeers {
			f.forgetLocked()
		}
		l = rate.NewLimiter(failRate, failBurst)
		f.peers[key] = l
	}
	return l.Allow()
}

// forgetLocked makes room: peers that have not failed of late, or else any half of them.
func (f *failures) forgetLocked() {
	for key, l := range f.peers {
		if l.Tokens() >= failBurst {
			delete(f.peers, key)
		}
	}
	if len(f.peers) < maxPeers*3/4 {
		return // else it would be gone through again soon
	}
	for key := range f.peers {
		if len(f.peers) <= maxPeers/2 {
			return
		}
		delete(f.peers, key)
	}
}

// peerKey is the address, or the network of an IPv6 address: one host has all of a /64.
func peerKey(peer string) string {
	a, err := netip.ParseAddr(peer)
	if err != nil {
		return ""
	}
	if a = a.Unmap(); a.Is4() {
		return a.String()
	}
	network, err := a.WithZone("").Prefix(64)
	if err != nil {
		return a.String()
	}
	return network.String()
}

// metrics of the console.
type metrics struct {
	logins  *prometheus.CounterVec
	refused *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) (metrics, error) {
	m := metrics{
		logins: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ledgerfeed_console_logins_total",
			Help: "Logins by method (token, bearer, oidc) and outcome: ok, logout, failed (wrong credential), limited (failed, and its peer failed too often), refused (no role here). Requests with a right bearer token are not counted.",
		}, []string{"method", "outcome"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ledgerfeed_console_refused_total",
			Help: "Requests and connections refused before they were looked at, by reason: proxy, host, body_type, body_size, streams, connections.",
		}, []string{"reason"}),
	}
	if r == nil {
		return m, nil
	}
	if err := r.Register(m.logins); err != nil {
		return m, err
	}
	return m, r.Register(m.refused)
}

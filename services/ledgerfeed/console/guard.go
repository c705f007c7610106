package console

import (
	"context"
	"errors"
	"mime"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
)

const (
	// maxForm is the size of a body, but of the import of tokens, which has limits of its
	// own; maxLogin that of a login, which anybody may send.
	maxForm, maxLogin = 64 << 10, 4 << 10
	// maxHeader is the size of a request's headers.
	maxHeader = 16 << 10
	// readyFor is how long an answer of /readyz is given again.
	readyFor = time.Second
	readyMax = 2 * time.Second
)

const importPath, importOnePath = "/tokens", "/realms/:realm/token"

// local refuses what did not come straight from this machine where no login, or no TLS,
// protects the console: a page of another site could make its name lead here, and a proxy
// would open it to everybody.
func (s *Server) local(next echo.HandlerFunc) echo.HandlerFunc {
	if !s.o.Config.local() {
		return next
	}
	return func(c echo.Context) error {
		host := c.Request().Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		if !loopback(host) {
			s.metrics.refused.WithLabelValues("host").Inc()
			return problem(http.StatusMisdirectedRequest, "Only for this machine", "Open the console by the name of this machine, such as localhost, or set console.token and console.public_url (https).")
		}
		if name := forwarded(c.Request().Header); name != "" {
			s.metrics.refused.WithLabelValues("proxy").Inc()
			return problem(http.StatusForbidden, "Only for this machine", "The request came through a proxy ("+name+"). To serve the console through one, set console.token or OpenID Connect, and console.public_url (https).")
		}
		return next(c)
	}
}

// forwarded is the header by which a request shows that it came through a proxy.
func forwarded(h http.Header) string {
	for name := range h {
		switch {
		case name == "Forwarded", name == "Via", name == "X-Real-Ip", strings.HasPrefix(name, "X-Forwarded-"):
			return name
		}
	}
	return ""
}

// bounded limits the body of a request. Only forms are taken, since the parser of others
// keeps 32 MiB of each in memory; a request to read has none.
func (s *Server) bounded(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r, path := c.Request(), c.Path()
		switch {
		case r.Method == http.MethodPost && path == importPath && s.o.Connect != nil:
			// The answer comes line by line, for as long as the import takes.
			deadline(c, time.Time{})
			return next(c)
		case r.Method == http.MethodGet, r.Method == http.MethodHead:
			r.Body = http.NoBody
			r.Header.Del(echo.HeaderContentType)
			return next(c)
		case path != importOnePath && r.ContentLength != 0 && !isForm(r.Header):
			s.metrics.refused.WithLabelValues("body_type").Inc()
			c.Response().Header().Set("Connection", "close")
			return problem(http.StatusUnsupportedMediaType, "Not a form", "Send the parameters as application/x-www-form-urlencoded.")
		}
		limit := int64(maxForm)
		if path == "/login" {
			limit = maxLogin
		}
		if r.ContentLength > limit {
			c.Response().Header().Set("Connection", "close")
			return s.tooLarge()
		}
		r.Body = http.MaxBytesReader(c.Response(), r.Body, limit)
		return next(c)
	}
}

func isForm(h http.Header) bool {
	kind, _, err := mime.ParseMediaType(h.Get(echo.HeaderContentType))
	return err == nil && kind == echo.MIMEApplicationForm
}

// form reads the form of a request, after the login. A body that was cut off must not
// count as one without parameters, which may mean "all".
func (s *Server) form(c echo.Context) error {
	err := c.Request().ParseForm()
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return s.tooLarge()
	case err != nil:
		return problem(http.StatusBadRequest, "Not a form", "The parameters cannot be read: send them as application/x-www-form-urlencoded.").SetInternal(err)
	}
	return nil
}

func (s *Server) tooLarge() error {
	s.metrics.refused.WithLabelValues("body_size").Inc()
	return problem(http.StatusRequestEntityTooLarge, "Too large", "Send less than 64 KiB.")
}

// deadline ends the write of an answer then; no time is no end.
func deadline(c echo.Context, t time.Time) {
	// A test's recorder has none.
	_ = http.NewResponseController(c.Response()).SetWriteDeadline(t)
}

// readiness remembers whether the servers answer: anybody may ask, and each question costs
// Redis and NATS one.
type readiness struct {
	ask func(context.Context) error

	mu  sync.Mutex // guards at and err; held while asking
	at  time.Time
	err error
}

func (r *readiness) check(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.at.IsZero() && time.Since(r.at) < readyFor {
		return r.err
	}
	// Without the end of this request: others get the answer, too.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyMax)
	defer cancel()
	r.err, r.at = r.ask(ctx), time.Now()
	return r.err
}

const (
	// maxStreams are the live pages that are open at the same time; maxOwnStreams those of
	// one session, or of one bearer token.
	maxStreams, maxOwnStreams = 256, 16
)

// streams counts live pages.
type streams struct {
	mu   sync.Mutex // guards what follows
	all  int
	each map[string]int
}

func newStreams() *streams { return &streams{each: map[string]int{}} }

// enter takes a place for a live page, if there is one.
func (s *streams) enter(id identity) (leave func(), ok bool) {
	key := id.Who + " " + id.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all >= maxStreams || s.each[key] >= maxOwnStreams {
		return nil, false
	}
	s.all++
	s.each[key]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all--
		if s.each[key]--; s.each[key] == 0 {
			delete(s.each, key)
		}
	}, true
}

package console

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/ledgerfeed/ledgerfeed/pkg/config"
	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/action"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/connect"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/realm"
)

const (
	headerTime = 5 * time.Second
	requestMax = 30 * time.Second
	drainTime  = 10 * time.Second
	// Logins a second and at once, by one process: nobody guesses a token.
	loginRate, loginBurst = 1, 20
)

// Options are what the program passes to New. Config, State, Stream, Connections, QBO
// and Budget are required.
type Options struct {
	Config      ConsoleConfig
	State       *state.Store
	Stream      *stream.Conn
	Connections *connection.Store
	QBO         *qbo.Client
	Budget      *state.Budget
	// Connect serves the OAuth flow; nil: companies are connected elsewhere.
	Connect *connect.Handler
	// Settings are shown on the page Settings; see [config.Describe].
	Settings []config.Field
	// Gather returns the metrics of the services; nil scrapes Config.Scrape.
	Gather func(ctx context.Context) ([]*dto.MetricFamily, error)
	Logger *zap.Logger
	Now    func() time.Time
}

// Server is the console. Call Run, or its port stays open.
type Server struct {
	o         Options
	log       *zap.Logger
	sessions  *sessions
	logins    *rate.Limiter
	origins   *http.CrossOriginProtection
	oidc      *oidcLogin // nil without one
	realms    *realm.Directory
	sampler   *sampler
	replays   *replays
	trail     *action.Trail
	listener  net.Listener
	http      *http.Server
	templates templates
	stopping  context.Context // ends when the streams of events must
	stop      context.CancelFunc
}

// New listens, so that a port in use is an error at start.
func New(o Options) (*Server, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, lifecycle.Usage(err)
	}
	if o.State == nil || o.Stream == nil || o.Connections == nil || o.QBO == nil || o.Budget == nil {
		return nil, errors.New("console: State, Stream, Connections, QBO and Budget are required")
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Gather == nil {
		o.Gather = scraper(o.Config.Scrape)
	}
	directory, err := realm.New(realm.Options{State: o.State, Connections: o.Connections, Now: o.Now})
	if err != nil {
		return nil, err
	}
	s := &Server{
		o: o, log: o.Logger, sessions: newSessions(o.Config, o.Now), logins: rate.NewLimiter(loginRate, loginBurst),
		origins: http.NewCrossOriginProtection(), realms: directory, replays: newReplays(),
	}
	s.trail = action.New(action.Options{
		Stream: func(context.Context) (*stream.Conn, error) { return o.Stream, nil },
		State:  func(context.Context) (*state.Store, error) { return o.State, nil },
		Logger: o.Logger.Named("actions"), Now: o.Now,
	})
	if s.templates, err = parseTemplates(); err != nil {
		return nil, err
	}
	if o.Config.PublicURL != "" {
		if err := s.origins.AddTrustedOrigin(origin(o.Config.PublicURL)); err != nil {
			return nil, lifecycle.Usage(fmt.Errorf("console.public_url: %w", err))
		}
	}
	if o.Config.OIDCIssuer != "" {
		s.oidc = newOIDCLogin(o.Config, s.sessions, s)
	}
	s.sampler = newSampler(s)
	s.stopping, s.stop = context.WithCancel(context.Background())
	s.listener, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp", o.Config.Listen)
	if err != nil {
		return nil, lifecycle.Usage(fmt.Errorf("console.listen %s: %w", o.Config.Listen, err))
	}
	httpLog, err := zap.NewStdLogAt(s.log, zap.DebugLevel)
	if err != nil {
		return nil, err
	}
	s.http = &http.Server{Handler: s.handler(), ReadHeaderTimeout: headerTime, ReadTimeout: requestMax, ErrorLog: httpLog}
	return s, nil
}

// URL is where a browser of this machine finds it.
func (s *Server) URL() string { return "http://" + s.listener.Addr().String() + "/" }

// Handler is all of it, for tests and for other servers.
func (s *Server) Handler() http.Handler { return s.http.Handler }

// Run serves, and takes the samples that the charts are drawn from, until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- s.http.Serve(s.listener) }()
	sampling, stop := context.WithCancel(ctx)
	sampled, drained := make(chan struct{}), make(chan struct{})
	go func() { defer close(sampled); s.sampler.run(sampling) }()
	go func() { defer close(drained); s.trail.Run(sampling) }()
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
		s.stop()
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
		err = s.http.Shutdown(drain)
		cancel()
		if serve := <-ended; !errors.Is(serve, http.ErrServerClosed) {
			err = errors.Join(err, serve)
		}
	}
	s.stop()
	stop()
	<-sampled
	<-drained
	s.replays.wait()
	s.trail.Close()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// ready says why the console cannot show anything.
func (s *Server) ready(ctx context.Context) error {
	return errors.Join(s.o.State.Ping(ctx), s.o.Stream.Ready(ctx))
}

func (s *Server) handler() *echo.Echo {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.HTTPErrorHandler = s.failed
	e.Use(requestID, s.headers, s.ownHosts)
	e.GET("/livez", func(c echo.Context) error { return c.String(http.StatusOK, "ok\n") })
	e.GET("/readyz", func(c echo.Context) error {
		ctx, cancel := context.WithTimeout(c.Request().Context(), 2*time.Second)
		defer cancel()
		if err := s.ready(ctx); err != nil {
			s.log.Debug("not ready", zap.Error(err))
			return c.String(http.StatusServiceUnavailable, "Redis or NATS does not answer\n")
		}
		return c.String(http.StatusOK, "ok\n")
	})
	e.GET("/assets/:name", asset)
	e.GET("/login", s.loginPage)
	e.POST("/login", s.login, s.sameSite)
	e.POST("/logout", s.logout, s.sameSite)
	if s.oidc != nil {
		e.GET("/login/start", s.oidc.begin)
		e.GET("/login/callback", s.oidc.callback)
	}
	s.register(e)
	return e
}

// headers keep pages from running, loading or being framed by what is not ours.
func (s *Server) headers(next echo.HandlerFunc) echo.HandlerFunc {
	const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
	return func(c echo.Context) error {
		h := c.Response().Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if s.o.Config.secure() {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		return next(c)
	}
}

// ownHosts refuses requests for other names than this machine's where there is no
// login: a page of another site could make its name lead here.
func (s *Server) ownHosts(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if !s.o.Config.login() {
			host := c.Request().Host
			if name, _, err := net.SplitHostPort(host); err == nil {
				host = name
			}
			if !loopback(host) {
				return echo.NewHTTPError(http.StatusMisdirectedRequest, "open the console by the name of this machine, such as localhost, or set console.token")
			}
		}
		return next(c)
	}
}

package console

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/config"
	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/action"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/connect"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/realmstatus"
)

const (
	headerTime = 5 * time.Second
	requestMax = 30 * time.Second
	drainTime  = 10 * time.Second
	// answerMax bounds an answer, idleMax the time between two requests of a connection.
	answerMax, idleMax = 5 * time.Minute, 2 * time.Minute
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
	// Registerer takes the metrics; nil keeps them.
	Registerer prometheus.Registerer
	Now        func() time.Time
}

// Server is the console. Call Run, or its port stays open.
type Server struct {
	o         Options
	log       *zap.Logger
	metrics   metrics
	sessions  *sessions
	failures  *failures
	streams   *streams
	readiness readiness
	origins   *http.CrossOriginProtection
	oidc      *oidcLogin // nil without one
	realms    *realmstatus.Directory
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
	keys, err := sessionKeys(o.Config)
	if err != nil {
		return nil, lifecycle.Usage(err)
	}
	directory, err := realmstatus.New(realmstatus.Options{State: o.State, Connections: o.Connections, Now: o.Now})
	if err != nil {
		return nil, err
	}
	s := &Server{
		o: o, log: o.Logger, sessions: &sessions{store: o.State, config: o.Config, keys: keys, now: o.Now}, failures: newFailures(),
		streams: newStreams(), origins: http.NewCrossOriginProtection(), realms: directory, replays: newReplays(),
	}
	s.readiness.ask = s.ready
	if s.metrics, err = newMetrics(o.Registerer); err != nil {
		return nil, err
	}
	s.trail = action.New(action.Options{
		Stream: func(context.Context) (*stream.Conn, error) { return o.Stream, nil },
		State:  func(context.Context) (*state.Store, error) { return o.State, nil },
		Logger: o.Logger.Named("actions"), Now: o.Now,
	})
	if s.templates, err = parseTemplates(); err != nil {
		return nil, err
	}
	if o.Config.secure() {
		if err := s.origins.AddTrustedOrigin(origin(o.Config.PublicURL)); err != nil {
			return nil, lifecycle.Usage(fmt.Errorf("console.public_url: %w", err))
		}
	}
	if o.Config.OIDCIssuer != "" {
		s.oidc = newOIDCLogin(s)
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
	s.listener = newConnections(s.listener, o.Config.TrustedProxies, s.metrics.refused.WithLabelValues("connections").Inc)
	s.http = &http.Server{
		Handler: s.handler(), ReadHeaderTimeout: headerTime, ReadTimeout: requestMax, WriteTimeout: answerMax, IdleTimeout: idleMax,
		MaxHeaderBytes: maxHeader, ErrorLog: httpLog,
	}
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
	counted := make(chan struct{})
	go func() { defer close(counted); s.watchReplicas(sampling) }()
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
	<-counted
	<-drained
	s.replays.wait()
	s.trail.Close()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// watchReplicas warns where several consoles serve the feed, each with a session key of its
// own: none of them knows the sessions of another.
func (s *Server) watchReplicas(ctx context.Context) {
	if s.o.Config.SessionKey != "" || !s.o.Config.login() {
		return
	}
	s.o.State.Members("console", s.log).Run(ctx, func(replicas []string) {
		if len(replicas) > 1 {
			s.log.Warn("several consoles without console.session_key; a login holds on one of them only", zap.Int("count", len(replicas)))
		}
	})
}

// ready says why the console cannot show anything.
func (s *Server) ready(ctx context.Context) error {
	return errors.Join(s.o.State.Ping(ctx), s.o.Stream.Ready(ctx))
}

func (s *Server) handler() *echo.Echo {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.HTTPErrorHandler = s.failed
	e.IPExtractor = peers(s.o.Config.TrustedProxies)
	e.Use(requestID, s.headers, s.local, s.bounded)
	e.GET("/livez", func(c echo.Context) error { return c.String(http.StatusOK, "ok\n") })
	e.GET("/readyz", func(c echo.Context) error {
		if err := s.readiness.check(c.Request().Context()); err != nil {
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

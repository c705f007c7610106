package ingress

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

const (
	headerTimeout = 5 * time.Second
	idleTimeout   = 2 * time.Minute
	// maxHeader is ample: Intuit sends some 600 bytes, a proxy adds a few.
	maxHeader = 16 << 10
)

// Options are what the program passes to New. Publisher is required.
type Options struct {
	Config    IngressConfig
	Publisher Publisher
	// Ready says why nothing can be stored now; nil is always ready. See [Server.Ready].
	Ready func(ctx context.Context) error
	// Beat is called every five seconds as long as webhooks can be taken; nil tells
	// nobody. See stream.Conn.Beat.
	Beat func(ctx context.Context) error
	// Logger and Registerer may be nil.
	Logger     *zap.Logger
	Registerer prometheus.Registerer
	// Now is when envelopes say they were received; nil is time.Now.
	Now func() time.Time
	// Tracer makes a span for each signed request; nil makes none, and a trace
	// context that came with the request passes through.
	Tracer trace.Tracer
	// Roots are the authorities that Intuit is taken to trust; nil is the system's.
	Roots *x509.CertPool
}

// Server is the webhook endpoint.
type Server struct {
	config    IngressConfig
	apps      atomic.Pointer[map[string]*app]
	cert      *keyPair // nil without TLS
	publisher Publisher
	ready     func(ctx context.Context) error
	beat      func(ctx context.Context) error
	now       func() time.Time
	log       *zap.Logger
	metrics   *metrics
	tracer    trace.Tracer
	refusals  map[outcome]*throttle
	signers   atomic.Pointer[signers]
	// misdirected is of requests for an app or path that is not there.
	misdirected *misdirected
	access      *rate.Limiter
	received    slots // requests in hand
	storing     slots // of them with a good signature
	memory      *memory
	peers       *peers
	listener    *connections
	http        *http.Server
	draining    atomic.Bool
}

// New listens, so that a port in use is an error at start; requests wait until
// Run. Call Run or Close, or the port stays open. It refuses to start without a
// verifier token.
func New(o Options) (*Server, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, err
	}
	if o.Publisher == nil {
		return nil, errors.New("ingress: Publisher is required")
	}
	if o.Ready == nil {
		o.Ready = func(context.Context) error { return nil }
	}
	if o.Beat == nil {
		o.Beat = func(context.Context) error { return nil }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	apps, err := parseApps(o.Config.Apps)
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	s := &Server{
		config: o.Config, publisher: o.Publisher, ready: o.Ready, beat: o.Beat, now: o.Now, log: o.Logger, metrics: m,
		refusals: map[outcome]*throttle{badSignature: {}, overloaded: {}}, misdirected: newMisdirected(),
		tracer:   o.Tracer,
		access:   rate.NewLimiter(rate.Limit(o.Config.AccessLog), o.Config.AccessLog),
		received: make(slots, o.Config.MaxConnections),
		storing:  make(slots, o.Config.MaxInFlight),
		memory:   &memory{free: o.Config.MaxInFlightBytes, gauge: m.memory},
	}
	s.setApps(apps)
	// What strangers get wrong in HTTP is of no interest above debug.
	httpLog, err := zap.NewStdLogAt(s.log, zap.DebugLevel)
	if err != nil {
		return nil, err
	}
	s.http = &http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: headerTimeout,
		// The body has a deadline of its own; these two only end a connection
		// whose peer neither sends nor takes anything.
		ReadTimeout:    headerTimeout + o.Config.Budget,
		WriteTimeout:   2*headerTimeout + o.Config.Budget,
		IdleTimeout:    idleTimeout,
		MaxHeaderBytes: maxHeader,
		ErrorLog:       httpLog,
	}
	if o.Config.TLSCertFile != "" {
		if err := s.useTLS(o.Roots); err != nil {
			return nil, err
		}
	}
	m.lastRead.SetToCurrentTime()
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", o.Config.Listen)
	if err != nil {
		return nil, fmt.Errorf("webhook endpoint: %w", err)
	}
	most := min(o.Config.MaxConnections, mayOpen())
	if most < o.Config.MaxConnections {
		s.log.Warn("limit of open files allows fewer connections than configured", telemetry.Count(most))
	}
	s.peers = newPeers(o.Config, most, m, s.log)
	bounded, err := newConnections(listener, most, s.peers, s.cert == nil, o.Registerer)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("register metrics: %w", err), listener.Close())
	}
	s.listener, s.http.ConnState = bounded, bounded.changed
	return s, nil
}

// Addr is the address it listens on, with the port it took.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Ready says why no webhook can be taken now: the service drains, or Options.Ready
// has a reason.
func (s *Server) Ready(ctx context.Context) error {
	if s.draining.Load() {
		return errors.New("draining")
	}
	return s.ready(ctx)
}

// Run serves until ctx ends, then takes no new requests, finishes those in hand
// within the drain timeout and returns (I13). It can be called once.
func (s *Server) Run(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- s.serve() }()
	beating, stop := context.WithCancel(ctx)
	var beats sync.WaitGroup
	beats.Go(func() { s.beats(beating) })
	defer func() {
		stop()
		beats.Wait()
	}()
	s.log.Info("webhook endpoint started", telemetry.Address(s.Addr()), telemetry.Count(len(*s.apps.Load())))
	select {
	case err := <-ended:
		if errors.Is(err, http.ErrServerClosed) { // Close
			return nil
		}
		return fmt.Errorf("webhook endpoint: %w", err)
	case <-ctx.Done():
	}
	s.draining.Store(true)
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.DrainTimeout)
	defer cancel()
	err := s.http.Shutdown(drain)
	if err != nil {
		err = errors.Join(fmt.Errorf("requests still in flight after %s: %w", s.config.DrainTimeout, err), s.http.Close())
	}
	if serr := <-ended; !errors.Is(serr, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("webhook endpoint: %w", serr))
	}
	s.log.Info("webhook endpoint stopped", telemetry.Address(s.Addr()))
	return err
}

func (s *Server) serve() error {
	defer s.listener.wait()
	if s.cert != nil {
		return s.http.ServeTLS(s.listener, "", "")
	}
	return s.http.Serve(s.listener)
}

// Close frees the port of a server that is not going to run, and ends one that
// does without waiting for what is in hand. It may be called twice.
func (s *Server) Close() error {
	err := s.http.Close()
	// The HTTP server knows the listener only once it runs.
	if lerr := s.listener.Close(); !errors.Is(lerr, net.ErrClosed) {
		err = errors.Join(err, lerr)
	}
	return err
}

func (s *Server) routes() http.Handler {
	e := echo.New()
	e.IPExtractor = s.ipExtractor()
	e.HTTPErrorHandler = s.noRoute
	e.POST("/webhooks/:app", s.receive)
	// Echo answers OPTIONS by itself, with 204.
	e.OPTIONS("/webhooks/:app", func(echo.Context) error { return refuse(wrongMethod, nil) })
	return e
}

// noRoute answers what has no handler: unknown paths and methods.
func (s *Server) noRoute(err error, c echo.Context) {
	r, p := &request{began: time.Now(), peer: c.RealIP()}, asProblem(err)
	if p.outcome == noRoute {
		s.reportMisdirected(c.Response().Writer, c.Request(), r)
	}
	s.answer(c, r, p)
}

// answer reports and sends a problem.
func (s *Server) answer(c echo.Context, r *request, p *problem) {
	s.report(r, p.outcome, p.cause)
	if err := p.write(c.Response(), c.Request()); err != nil {
		s.log.Debug("answer not written", telemetry.Error(err))
	}
}

// ipExtractor believes X-Forwarded-For only from the proxies that were named:
// anybody can write that header.
func (s *Server) ipExtractor() echo.IPExtractor {
	if len(s.config.TrustedProxies) == 0 {
		return echo.ExtractIPDirect()
	}
	trust := []echo.TrustOption{echo.TrustLoopback(false), echo.TrustLinkLocal(false), echo.TrustPrivateNet(false)}
	for _, cidr := range s.config.TrustedProxies {
		if _, network, err := net.ParseCIDR(cidr); err == nil { // Validate has seen it
			trust = append(trust, echo.TrustIPRange(network))
		}
	}
	return echo.ExtractIPFromXFFHeader(trust...)
}

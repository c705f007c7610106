package ingress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

const (
	readHeaderTimeout = 5 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 32 << 10
)

// Publisher is where notifications go. Both methods return nil only after the
// broker's acknowledgement.
type Publisher interface {
	Publish(ctx context.Context, envs ...*ledgerfeedv1.Envelope) error
	PublishDead(ctx context.Context, d stream.DeadLetter) error
	// MaxBody is the largest body that one dead letter can hold, in bytes.
	MaxBody() int
}

// Options are what the program passes to New. Publisher is required.
type Options struct {
	Config    IngressConfig
	Publisher Publisher
	// Ready says why nothing can be stored now; nil is always ready. See Server.Ready.
	Ready  func(ctx context.Context) error
	Logger *zap.Logger
	// Registerer is where the metrics are registered; nil for nowhere.
	Registerer prometheus.Registerer
	Now        func() time.Time
}

// Server is the webhook endpoint.
type Server struct {
	config   IngressConfig
	apps     map[string][]secret.String
	publish  Publisher
	ready    func(ctx context.Context) error
	log      *zap.Logger
	metrics  *metrics
	now      func() time.Time
	inFlight chan struct{}
	listener net.Listener
	http     *http.Server
	closing  sync.Once
}

// New listens, so that a port in use is an error at start. Call Run, or the
// port stays open until the process ends. It refuses to start without a
// verifier token.
func New(o Options) (*Server, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, err
	}
	if o.Publisher == nil {
		return nil, errors.New("ingress: Publisher is required")
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	apps, err := parseApps(o.Config.Apps)
	if err != nil {
		return nil, err
	}
	s := &Server{
		config: o.Config, apps: apps, publish: o.Publisher, ready: o.Ready, log: o.Logger, now: o.Now,
		inFlight: make(chan struct{}, o.Config.MaxInFlight),
	}
	s.metrics = newMetrics(o.Registerer, func() float64 { return float64(len(s.inFlight)) })
	s.http = &http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: readHeaderTimeout,
		// The body's deadline is the budget, set per request; this one only ends
		// a connection whose peer does not take the answer.
		WriteTimeout:   o.Config.Budget + readHeaderTimeout,
		IdleTimeout:    idleTimeout,
		MaxHeaderBytes: maxHeaderBytes,
		ErrorLog:       zap.NewStdLog(zap.NewNop()),
	}
	s.listener, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp", o.Config.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", o.Config.Listen, err)
	}
	return s, nil
}

// Addr is the address the server listens on.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Ready says why a webhook would not be stored now.
func (s *Server) Ready(ctx context.Context) error {
	if s.ready == nil {
		return nil
	}
	return s.ready(ctx)
}

// Run serves until ctx ends, then stops accepting, finishes the requests in
// hand within the drain timeout, and returns.
func (s *Server) Run(ctx context.Context) error {
	s.log.Info("ingress listening", telemetry.Address(s.Addr()), telemetry.Count(len(s.apps)))
	ended := make(chan error, 1)
	go func() { ended <- s.http.Serve(s.listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve %s: %w", s.Addr(), err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.DrainTimeout)
	defer cancel()
	err := s.http.Shutdown(drain)
	if err != nil {
		err = errors.Join(fmt.Errorf("requests in hand after %s: %w", s.config.DrainTimeout, err), s.http.Close())
	}
	<-ended
	return err
}

// Close frees the port of a server that is not going to run. It may be called
// twice and after Run.
func (s *Server) Close() error {
	var err error
	s.closing.Do(func() { err = s.http.Close(); _ = s.listener.Close() })
	return err
}

func (s *Server) routes() http.Handler {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.IPExtractor = s.ipExtractor()
	e.HTTPErrorHandler = s.answerError
	e.Any("/webhooks/:app", s.receive)
	return e
}

// ipExtractor believes X-Forwarded-For only from the proxies that were named.
func (s *Server) ipExtractor() echo.IPExtractor {
	if len(s.config.TrustedProxies) == 0 {
		return echo.ExtractIPDirect()
	}
	trust := []echo.TrustOption{echo.TrustLoopback(false), echo.TrustLinkLocal(false), echo.TrustPrivateNet(false)}
	for _, cidr := range s.config.TrustedProxies {
		_, network, err := net.ParseCIDR(cidr)
		if err == nil { // Validate has seen it
			trust = append(trust, echo.TrustIPRange(network))
		}
	}
	return echo.ExtractIPFromXFFHeader(trust...)
}

package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

const (
	// readyTimeout is shorter than a prober's usual patience, so that the
	// reason arrives before the prober gives up.
	readyTimeout = 2 * time.Second
	writeTimeout = 10 * time.Second
	stopTimeout  = 5 * time.Second
)

// Off as a listen address turns the admin endpoint off.
const Off = "off"

// AdminConfig is the admin endpoint as an operator sets it.
type AdminConfig struct {
	Listen string `koanf:"listen" doc:"Listen address of the admin endpoint (/livez, /readyz, /metrics, /debug/pprof), or off. It has no authentication: keep it off the internet."`
	Pprof  bool   `koanf:"pprof" doc:"Serve /debug/pprof even if other machines reach admin.listen: it exposes memory, and profiles cost CPU. On a loopback address it is always served."`
}

// DefaultAdminConfig listens on the loopback interface, port 9090.
func DefaultAdminConfig() AdminConfig { return AdminConfig{Listen: "127.0.0.1:9090"} }

// Validate names the field and the value that is wrong.
func (c AdminConfig) Validate() error {
	if c.Listen == Off {
		return nil
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return fmt.Errorf("admin.listen is %q, want host:port, :port or off", c.Listen)
	}
	return nil
}

// AdminOptions is what [NewAdmin] needs.
type AdminOptions struct {
	// Listen is host:port; port 0 takes any free one, [Off] none.
	Listen string
	// Pprof serves /debug/pprof at an address that other machines reach. At a loopback
	// address it is served in any case, to requests for a loopback name.
	Pprof bool
	// Gatherer is what /metrics shows; required.
	Gatherer prometheus.Gatherer
	// Ready says why the service cannot work now; nil is always ready. It is
	// called for every /readyz, with two seconds.
	Ready func(ctx context.Context) error
	// Details is what /readyz shows beside its verdict, by name; may be nil.
	Details func() map[string]string
	// Logger may be nil.
	Logger *zap.Logger
}

// Admin is the admin endpoint: /livez answers as long as the process does,
// /readyz asks Ready and gives the reason as JSON, /metrics is for Prometheus,
// /debug/pprof, on loopback or where Pprof is set, for people.
type Admin struct {
	options  AdminOptions
	listener net.Listener // nil when off
	server   *http.Server
}

// NewAdmin listens, so that a port that is taken is an error at start. Call Run,
// or the port stays open until the process ends.
func NewAdmin(o AdminOptions) (*Admin, error) {
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	if o.Ready == nil {
		o.Ready = func(context.Context) error { return nil }
	}
	a := &Admin{options: o}
	if o.Listen == Off {
		return a, nil
	}
	listener, err := net.Listen("tcp", o.Listen) //nolint:noctx // returns at once
	if err != nil {
		return nil, fmt.Errorf("admin endpoint: %w", err)
	}
	a.listener = listener
	a.server = &http.Server{
		Handler:           a.routes(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		// No WriteTimeout: a CPU profile takes as long as was asked for. The
		// other handlers set their own.
		ErrorLog: zap.NewStdLog(o.Logger),
	}
	return a, nil
}

// Addr is the address it listens on, with the port it took; empty when off.
func (a *Admin) Addr() string {
	if a.listener == nil {
		return ""
	}
	return a.listener.Addr().String()
}

// Run serves until ctx ends and returns when the answers in hand are written.
func (a *Admin) Run(ctx context.Context) error {
	if a.listener == nil {
		<-ctx.Done()
		return nil
	}
	failed := make(chan error, 1)
	go func() { failed <- a.server.Serve(a.listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("admin endpoint: %w", err)
	case <-ctx.Done():
	}
	stop, done := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer done()
	if err := a.server.Shutdown(stop); err != nil {
		_ = a.server.Close() // a profile in the making is not worth waiting for
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin endpoint: %w", err)
	}
	return nil
}

func (a *Admin) routes() http.Handler {
	quick := http.NewServeMux()
	quick.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, health{Status: "alive"})
	})
	quick.HandleFunc("GET /readyz", a.ready)
	quick.Handle("GET /metrics", promhttp.HandlerFor(a.options.Gatherer, promhttp.HandlerOpts{ErrorLog: zap.NewStdLog(a.options.Logger)}))

	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			a.options.Logger.Debug("write deadline not set", Error(err))
		}
		quick.ServeHTTP(w, r)
	})
	loopback := IsLoopback(a.listener.Addr().String())
	if !loopback && !a.options.Pprof {
		return mux
	}
	for path, handler := range map[string]http.HandlerFunc{
		"/debug/pprof/": pprof.Index, "/debug/pprof/cmdline": pprof.Cmdline, "/debug/pprof/profile": pprof.Profile,
		"/debug/pprof/symbol": pprof.Symbol, "/debug/pprof/trace": pprof.Trace,
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			// A web page can make its own name lead to this machine.
			if loopback && !IsLoopback(r.Host) {
				http.Error(w, "open this page by the name of this machine, such as localhost", http.StatusMisdirectedRequest)
				return
			}
			handler(w, r)
		})
	}
	return mux
}

// IsLoopback reports whether a host, with or without a port, is a name of this machine
// that no other machine reaches.
func IsLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

type health struct {
	Status string `json:"status"`
	Reason string `json:"reason,omitempty"`

	Details map[string]string `json:"details,omitempty"`
}

func (a *Admin) ready(w http.ResponseWriter, r *http.Request) {
	ctx, done := context.WithTimeout(r.Context(), readyTimeout)
	defer done()
	h := health{Status: "ready"}
	if a.options.Details != nil {
		h.Details = a.options.Details()
	}
	if err := a.options.Ready(ctx); err != nil {
		h.Status, h.Reason = "not ready", err.Error()
		answer(w, http.StatusServiceUnavailable, h)
		return
	}
	answer(w, http.StatusOK, h)
}

func answer(w http.ResponseWriter, status int, h health) {
	body, err := json.Marshal(h)
	if err != nil {
		panic(err) // strings always marshal
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/ledgerfeed/ledgerfeed/pkg/config"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	actions "github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/action"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/connect"
	loopbackserver "github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/loopback"
)

type connectCmd struct {
	Listen      string `default:"127.0.0.1:8090" placeholder:"ADDR" help:"Listen address (${default})."`
	App         string `default:"production" placeholder:"NAME" help:"Name of the app, as in ingress.apps (${default})."`
	BehindProxy bool   `help:"Accept requests that a local proxy forwards to a loopback address."`
}

// Help is the long help of the command.
func (connectCmd) Help() string {
	return `Serves the pages by which people connect their QuickBooks companies: /connect sends the browser to Intuit,
/connect/callback is what Intuit comes back to, /disconnected is for owners who have disconnected in QuickBooks.
Set LEDGERFEED_QBO_REDIRECT_URL to the address of the callback as browsers reach it, and register the same in the
portal. The pages have no login. Disconnecting a company and importing tokens need one: use the console, or
ledgerfeed realm disconnect and ledgerfeed token import.

On a loopback address requests that a proxy has forwarded are refused. Where a proxy on this machine is meant to
let the world connect companies, give --behind-proxy.

The settings are the services' own: LEDGERFEED_REDIS_URL, LEDGERFEED_CONNECTION_KEYS, LEDGERFEED_QBO_CLIENT_ID,
LEDGERFEED_QBO_CLIENT_SECRET.

Examples:
  LEDGERFEED_QBO_REDIRECT_URL=http://localhost:8090/connect/callback ledgerfeed connect
  ledgerfeed connect --behind-proxy
  ledgerfeed connect --listen :8090 --app production`
}

// ConnectConfig is what `ledgerfeed connect` reads beside the settings of the servers.
type ConnectConfig struct {
	Connect connect.Config `koanf:"connect"`
}

// DefaultConnectConfig is what is used where nothing is set.
func DefaultConnectConfig() ConnectConfig { return ConnectConfig{Connect: connect.DefaultConfig()} }

// Validate names every setting that cannot be used.
func (c ConnectConfig) Validate() error { return c.Connect.Validate() }

const (
	connectHeaderTime = 5 * time.Second
	connectDrain      = 20 * time.Second
)

// Run serves until ctx ends.
func (c *connectCmd) Run(ctx context.Context, p process) error {
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return lifecycle.Usage(fmt.Errorf("--listen %s: use HOST:PORT, such as 127.0.0.1:8090 (port 0 takes any free one)", c.Listen))
	}
	cfg := DefaultConnectConfig()
	if err := config.Load(&cfg, "", os.Environ()); err != nil {
		return err
	}
	s, err := openConnections(ctx, p)
	if err != nil {
		return err
	}
	defer s.close(ctx)
	log, err := p.logger()
	if err != nil {
		return err
	}
	handler, err := connect.New(connect.Options{
		Connections: s.connections, OAuth: s.oauth, App: c.App, PKCE: s.config.QBO.PKCE, Logger: log.Named("connect"),
		Company: connect.CompanyName(s.config.QBO), Names: s.store.CompanyNames, Config: cfg.Connect,
	})
	if err != nil {
		return lifecycle.Usage(err)
	}
	trail, closeTrail := p.trail(log, os.Environ())
	defer closeTrail()
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.Use(actions.Consents(trail))
	if loopback(host) {
		e.Use(ownHosts(s.oauth.RedirectURL()))
		if !c.BehindProxy {
			e.Use(loopbackserver.DirectOnly("Start it with --behind-proxy if the proxy is meant to reach it."))
		}
	}
	// What acts on companies, or tells which there are, needs a login: the console has one.
	routes := e.Group("")
	handler.RegisterStart(routes)
	handler.RegisterPublic(routes)
	return c.serve(ctx, p, e)
}

func (c *connectCmd) serve(ctx context.Context, p process, handler http.Handler) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return lifecycle.Usage(fmt.Errorf("--listen %s: %w", c.Listen, err))
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: connectHeaderTime}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	fmt.Fprintf(p.stdout, "connect  http://%s/connect\n", listener.Addr())
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectDrain)
	defer cancel()
	err = server.Shutdown(drain)
	if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// loopback: only programs of this machine get there.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// ownHosts refuses requests for other names than this machine's: a page of another
// site could make its name lead here.
func ownHosts(redirect string) echo.MiddlewareFunc {
	own := ""
	if u, err := url.Parse(redirect); err == nil {
		own = u.Hostname()
	}
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			host := c.Request().Host
			if name, _, err := net.SplitHostPort(host); err == nil {
				host = name
			}
			if host != own && !loopback(strings.Trim(host, "[]")) {
				return echo.NewHTTPError(http.StatusMisdirectedRequest, "open this page by the name of this machine, such as localhost")
			}
			return next(c)
		}
	}
}

// openConnections opens what is needed to work on connections, without the broker.
func openConnections(ctx context.Context, p process) (*servers, error) {
	cfg := DefaultServerConfig()
	if err := config.Load(&cfg, "", os.Environ()); err != nil {
		return nil, err
	}
	s := &servers{}
	if err := s.openConnections(ctx, p, cfg); err != nil {
		s.close(ctx)
		return nil, err
	}
	return s, nil
}

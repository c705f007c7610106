package cli

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/ledgerfeed/ledgerfeed/pkg/backend"
	"github.com/ledgerfeed/ledgerfeed/pkg/config"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/reload"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/connect"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/console"
)

// ConsoleConfig is what `ledgerfeed console` reads from the environment: the services'
// variables and its own.
type ConsoleConfig struct {
	backend.Config `koanf:",squash"`
	Console        console.ConsoleConfig `koanf:"console"`
	Connect        connect.Config        `koanf:"connect"`
}

// DefaultConsoleConfig is what is used where nothing is set.
func DefaultConsoleConfig() ConsoleConfig {
	return ConsoleConfig{Config: backend.DefaultConfig(), Console: console.DefaultConsoleConfig(), Connect: connect.DefaultConfig()}
}

// Validate names every setting that cannot be used.
func (c ConsoleConfig) Validate() error {
	return errors.Join(c.Config.Validate(), c.Console.Validate(), c.Connect.Validate())
}

type consoleCmd struct {
	Listen string `placeholder:"ADDR" help:"Listen address (LEDGERFEED_CONSOLE_LISTEN, 127.0.0.1:8090)."`
}

// Help is the long help of the command.
func (consoleCmd) Help() string {
	return `Serves the console: how the feed is doing, company by company, dead letters, sinks, calls, and what an operator
does about them; /api/v1/openapi.json describes the same as JSON. The settings are the services' own
(LEDGERFEED_NATS_URL, LEDGERFEED_REDIS_URL, LEDGERFEED_CONNECTION_KEYS, LEDGERFEED_QBO_CLIENT_ID,
LEDGERFEED_QBO_CLIENT_SECRET) and LEDGERFEED_CONSOLE_…, see docs/configuration.md.

On an address that other machines reach it refuses to start without LEDGERFEED_CONSOLE_TOKEN or OpenID Connect,
and without LEDGERFEED_CONSOLE_PUBLIC_URL, the https address that browsers use.
With LEDGERFEED_QBO_REDIRECT_URL it connects companies, too.

Examples:
  ledgerfeed console
  LEDGERFEED_CONSOLE_TOKEN_FILE=token.txt LEDGERFEED_CONSOLE_PUBLIC_URL=https://console.example.com ledgerfeed console --listen :8090
  LEDGERFEED_CONSOLE_SCRAPE=http://ingress:9090/metrics,http://processor:9090/metrics ledgerfeed console`
}

// Run serves until ctx ends.
func (c *consoleCmd) Run(ctx context.Context, p process) error {
	environ := os.Environ()
	if c.Listen != "" {
		environ = append(without(environ, "LEDGERFEED_CONSOLE_LISTEN"), "LEDGERFEED_CONSOLE_LISTEN="+c.Listen)
	}
	settings, err := reload.Load(environ, DefaultConsoleConfig, func(c ConsoleConfig) map[string]string { return c.Files() })
	if err != nil {
		return err
	}
	defer settings.Close()
	cfg := settings.Get()
	return backend.Start(ctx, "console", settings, p.stderr, func(b *backend.Backend) (func(context.Context) error, error) {
		budget := b.State.Budget(cfg.QBO.MonthlyCalls)
		o := console.Options{
			Config: cfg.Console, State: b.State, Stream: b.Stream, Connections: b.Connections, QBO: b.QBO, Budget: budget,
			Settings: config.Describe(&cfg), Logger: b.Log.Named("console"),
			Registerer: b.Registry,
		}
		if cfg.QBO.RedirectURL != "" {
			var err error
			if o.Connect, err = connectHandler(cfg, b); err != nil {
				return nil, lifecycle.Usage(err)
			}
		}
		server, err := console.New(o)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(p.stdout, "console  %s\n", server.URL())
		return server.Run, nil
	})
}

func connectHandler(cfg ConsoleConfig, b *backend.Backend) (*connect.Handler, error) {
	return connect.New(connect.Options{
		Connections: b.Connections, OAuth: b.OAuth, App: cfg.Console.App, PKCE: cfg.QBO.PKCE, Logger: b.Log.Named("connect"),
		Company: connect.CompanyName(cfg.QBO), Config: cfg.Connect, Names: b.State.CompanyNames, RealmURL: func(realm string) string { return "/realms/" + realm },
	})
}

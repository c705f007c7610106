package dev

import (
	"context"
	"fmt"
	"net"

	dto "github.com/prometheus/client_model/go"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/connect"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/console"
)

// consoleOff is the address of no console.
const consoleOff = "off"

// openConsole makes the console of this feed. It has no login: only programs of this
// machine get there.
func (f *feed) openConsole(api *qbo.Client) error {
	if f.o.ConsoleListen == consoleOff {
		return nil
	}
	cfg := console.DefaultConsoleConfig()
	cfg.Listen, cfg.App = f.o.ConsoleListen, app
	cfg.IngressURL, cfg.VerifierKey = f.webhookURL(), f.o.VerifierToken
	o := console.Options{
		Config: cfg, State: f.state, Stream: f.stream, Connections: f.connections, QBO: api,
		Budget: f.budget, Logger: f.log.Named("console"),
		Gather: func(context.Context) ([]*dto.MetricFamily, error) { return f.registry.Gather() },
	}
	// Where the port is chosen by the system there is no address to come back to.
	if host, port, err := net.SplitHostPort(cfg.Listen); err == nil && port != "0" {
		oauth, err := f.sim.oauthAt("http://" + net.JoinHostPort(host, port) + "/connect/callback")
		if err != nil {
			return err
		}
		cfg := qbo.DefaultConfig()
		cfg.BaseURL = f.sim.url
		if o.Connect, err = connect.New(connect.Options{
			Connections: f.connections, OAuth: oauth, App: app, PKCE: true, Logger: f.log.Named("connect"),
			Company:  connect.CompanyName(cfg),
			Names:    f.state.CompanyNames,
			RealmURL: func(realm string) string { return "/realms/" + realm },
		}); err != nil {
			return fmt.Errorf("build the connect flow: %w", err)
		}
	}
	var err error
	if f.console, err = console.New(o); err != nil {
		return cannotListen("console-listen", f.o.ConsoleListen, err)
	}
	return nil
}

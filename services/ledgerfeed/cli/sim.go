package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/dev"
)

// SimConfig is what `ledgerfeed sim` reads from the environment: both are
// secrets and do not belong on a command line.
type SimConfig struct {
	RedisURL       secret.String   `koanf:"redis_url" doc:"Redis of the services, where the simulated companies are connected. Without it no company is connected and no webhook is sent."`
	RedisCAFile    string          `koanf:"redis_ca_file" doc:"PEM file with certificate authorities for Redis, for rediss://; empty for the system's."`
	ConnectionKeys []secret.String `koanf:"connection_keys" doc:"connection.keys of the services."`
}

type simCmd struct {
	WebhookURL    string        `required:"" placeholder:"URL" help:"Webhook endpoint of the ingress, such as http://127.0.0.1:8080/webhooks/demo."`
	Listen        string        `default:"127.0.0.1:8090" placeholder:"ADDR" help:"Listen address of the simulated QuickBooks (${default})."`
	VerifierToken secret.String `placeholder:"TOKEN" help:"Verifier token that signs the webhooks (ledgerfeed-dev-verifier)."`
	App           string        `default:"demo" placeholder:"NAME" help:"App that the companies are connected to (${default})."`

	Realms    int                 `default:"3" placeholder:"N" help:"Number of companies (${default})."`
	Rate      float64             `default:"5" placeholder:"R" help:"Changes per second across all companies (${default})."`
	Seed      uint64              `default:"1" placeholder:"S" help:"Random seed; the same seed makes the same changes (${default})."`
	Drop      float64             `default:"0" placeholder:"P" help:"Share of webhooks to drop, 0 to 1."`
	Duplicate float64             `default:"0" placeholder:"P" help:"Share of webhooks to send twice, 0 to 1."`
	Reorder   float64             `default:"0" placeholder:"P" help:"Share of webhooks to send late, 0 to 1."`
	Outage    []dev.Outage        `sep:"none" placeholder:"AT:FOR" help:"Drop all webhooks for FOR, starting AT after the start (repeatable)."`
	Unselect  []qbosim.Unselected `sep:"none" placeholder:"TYPE[@AT]" help:"Send no webhooks of an event type, such as invoice.update, from AT after the start on (repeatable)."`
	Format    string              `default:"cloudevents" placeholder:"NAME" help:"Webhook format: cloudevents, legacy or mixed (${default})."`
	DataDir   string              `default:".ledgerfeed-sim" placeholder:"DIR" help:"Data directory (${default})."`
}

// Help is the long help of the command.
func (simCmd) Help() string {
	return `Serves a simulated QuickBooks for services that run elsewhere: its API under /v3, OAuth, webhooks to the
ingress, and a control API under /sim/. The services call it with qbo.base_url set to its address, client id
ledgerfeed-dev and client secret ledgerfeed-dev-secret. LEDGERFEED_SIM_REDIS_URL and
LEDGERFEED_SIM_CONNECTION_KEYS let it connect its companies to them.

Examples:
  ledgerfeed sim --webhook-url http://127.0.0.1:8080/webhooks/demo
  ledgerfeed sim --webhook-url http://ingress:8080/webhooks/demo --listen 0.0.0.0:8090 --drop 0.05`
}

// Run serves until ctx ends.
func (c *simCmd) Run(ctx context.Context, p process) error {
	u, err := url.Parse(c.WebhookURL)
	if err != nil || u.Host == "" {
		return lifecycle.Usage(fmt.Errorf("--webhook-url %q: give a URL such as http://127.0.0.1:8080/webhooks/demo", c.WebhookURL))
	}
	if p.config.Sim.RedisURL != "" && len(p.config.Sim.ConnectionKeys) == 0 {
		return lifecycle.Usage(errors.New("LEDGERFEED_SIM_CONNECTION_KEYS is empty: it encrypts the tokens in LEDGERFEED_SIM_REDIS_URL; give the services' connection.keys"))
	}
	o := dev.SimOptions{
		Options: dev.DefaultOptions(), WebhookURL: c.WebhookURL, App: c.App,
		Redis: p.config.Sim.RedisURL, RedisCAFile: p.config.Sim.RedisCAFile, Keys: p.config.Sim.ConnectionKeys,
	}
	o.Realms, o.Rate, o.Seed, o.Format = c.Realms, c.Rate, c.Seed, qbosim.Format(c.Format)
	o.Drop, o.Duplicate, o.Reorder, o.Outages = c.Drop, c.Duplicate, c.Reorder, c.Outage
	o.Unselected = c.Unselect
	o.DataDir, o.SimListen = c.DataDir, c.Listen
	if c.VerifierToken != "" {
		o.VerifierToken = c.VerifierToken
	}
	o.Log, o.Started, o.Stdout, o.Stderr = p.config.Log, p.started, p.stdout, p.stderr
	if err := o.Validate(); err != nil {
		return lifecycle.Usage(err)
	}
	return dev.RunSimulator(ctx, o)
}

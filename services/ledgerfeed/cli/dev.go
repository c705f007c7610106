package cli

import (
	"context"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/dev"
)

type devCmd struct {
	Realms int           `default:"3" placeholder:"N" help:"Number of companies (${default})."`
	Rate   float64       `default:"5" placeholder:"R" help:"Changes per second across all companies (${default})."`
	Seed   uint64        `default:"1" placeholder:"S" help:"Random seed; the same seed makes the same changes (${default})."`
	For    time.Duration `placeholder:"D" help:"Stop changing records after D, wait for delivery, compare the sinks with QuickBooks and print a JSON summary; exit 0 only if equal."`
	JSON   bool          `help:"Print only the summary to stdout."`

	Drop         float64             `default:"0" placeholder:"P" help:"Share of webhooks to drop, 0 to 1."`
	Duplicate    float64             `default:"0" placeholder:"P" help:"Share of webhooks to send twice, 0 to 1."`
	Reorder      float64             `default:"0" placeholder:"P" help:"Share of webhooks to send late, 0 to 1."`
	Lag          time.Duration       `default:"0" placeholder:"D" help:"Answer API calls from a replica that lags by up to D."`
	WrongDeletes float64             `default:"0" placeholder:"P" help:"Share of webhooks that wrongly announce a deletion, 0 to 1."`
	Derived      float64             `default:"0" placeholder:"P" help:"Share of changes that also move another record's balance without changing its SyncToken, 0 to 1."`
	Outage       []dev.Outage        `sep:"none" placeholder:"AT:FOR" help:"Drop all webhooks for FOR, starting AT after the first change (repeatable)."`
	Unselect     []qbosim.Unselected `sep:"none" placeholder:"TYPE[@AT]" help:"Send no webhooks of an event type, such as invoice.update, from AT after the first change on (repeatable)."`
	Format       string              `default:"cloudevents" placeholder:"NAME" help:"Webhook format: cloudevents, legacy or mixed (${default})."`

	Sink           []dev.Target  `sep:"none" placeholder:"SINK" help:"Sink: jsonl:PATH, postgres:URL or webhook:URL; repeatable (jsonl:<data-dir>/changes.jsonl)."`
	WebhookSecret  secret.String `placeholder:"SECRET" help:"Signing secret of webhook sinks, whsec_ and base64 (whsec_bGVkZ2VyZmVlZC1kZXYtd2ViaG9vay1zZWNyZXQ=)."`
	ReconcileEvery time.Duration `default:"30s" placeholder:"D" help:"Interval between scans of each company (${default})."`

	DataDir       string        `default:".ledgerfeed" placeholder:"DIR" help:"Data directory; a restart continues from it (${default})."`
	Listen        string        `default:"127.0.0.1:8080" placeholder:"ADDR" help:"Listen address of the ingress; port 0 picks a free one (${default})."`
	ConsoleListen string        `default:"127.0.0.1:8090" placeholder:"ADDR" help:"Listen address of the console, loopback only; port 0 picks a free one, off disables it (${default}; off with --for)."`
	MetricsListen string        `default:"off" placeholder:"ADDR" help:"Listen address of /metrics, for all services together (${default})."`
	SimListen     string        `default:"127.0.0.1:0" placeholder:"ADDR" help:"Listen address of the simulated QuickBooks (${default})."`
	RedisURL      secret.String `placeholder:"URL" help:"Use this Redis instead of the embedded one."`
	NATSURL       string        `placeholder:"URL" name:"nats-url" help:"Use this NATS instead of the embedded one."`
	VerifierToken secret.String `placeholder:"TOKEN" help:"Verifier token that signs the webhooks (ledgerfeed-dev-verifier)."`
}

// Help is the long help of the command.
func (devCmd) Help() string {
	return `Starts a simulated QuickBooks, NATS, Redis and the three services in one process. The simulated books
change, QuickBooks posts webhooks (or loses them, as the flags say), and every change ends up in the sinks.
ctrl-C drains and stops; the same command goes on where it stopped, also after kill -9.

Examples:
  ledgerfeed dev
  ledgerfeed dev --drop 0.2 --duplicate 0.1 --reorder 0.2 --format mixed
  ledgerfeed dev --for 20s --realms 5 --rate 50 --outage 5s:8s --json
  ledgerfeed dev --for 30s --rate 50 --unselect invoice.update@10s --unselect customer.merge --json
  ledgerfeed dev --for 20s --rate 50 --lag 30s --wrong-deletes 0.02 --derived 0.2 --json
  ledgerfeed dev --sink jsonl:changes.jsonl --sink postgres://postgres@127.0.0.1:5432/books
  ledgerfeed dev --sink webhook:http://127.0.0.1:9000`
}

// Run runs the feed until ctx ends or --for is over.
func (c *devCmd) Run(ctx context.Context, p process) error {
	o := dev.DefaultOptions()
	o.Realms, o.Rate, o.Seed = c.Realms, c.Rate, c.Seed
	o.Drop, o.Duplicate, o.Reorder = c.Drop, c.Duplicate, c.Reorder
	o.Lag, o.WrongDeletes, o.Derived = c.Lag, c.WrongDeletes, c.Derived
	o.Outages, o.Unselected, o.Format = c.Outage, c.Unselect, qbosim.Format(c.Format)
	o.Sinks, o.RedisURL, o.NATSURL = c.Sink, c.RedisURL, c.NATSURL
	o.DataDir, o.Listen, o.SimListen, o.MetricsListen = c.DataDir, c.Listen, c.SimListen, c.MetricsListen
	if c.For == 0 {
		o.ConsoleListen = c.ConsoleListen
	}
	o.ReconcileEvery, o.For, o.JSON = c.ReconcileEvery, c.For, c.JSON
	if c.VerifierToken != "" {
		o.VerifierToken = c.VerifierToken
	}
	if c.WebhookSecret != "" {
		o.WebhookSecret = c.WebhookSecret
	}
	o.Log, o.Started = p.config.Log, p.started
	o.Stdout, o.Stderr = p.stdout, p.stderr
	if err := o.Validate(); err != nil {
		return lifecycle.Usage(err)
	}
	return dev.Run(ctx, o)
}

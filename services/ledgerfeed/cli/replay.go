package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/replay"
)

// ReplayConfig is what `ledgerfeed replay` reads from the environment: the same
// variables as the services.
type ReplayConfig struct {
	ServerConfig `koanf:",squash"`
	BrokerConfig `koanf:",squash"`
}

// DefaultReplayConfig is the services' default.
func DefaultReplayConfig() ReplayConfig {
	return ReplayConfig{ServerConfig: DefaultServerConfig(), BrokerConfig: DefaultBrokerConfig()}
}

// Validate names every setting that cannot be used.
func (c ReplayConfig) Validate() error {
	return errors.Join(c.ServerConfig.Validate(), c.BrokerConfig.Validate())
}

type replayCmd struct {
	Realm   string   `required:"" placeholder:"ID" help:"Company id (realmId)."`
	Sink    string   `required:"" placeholder:"NAME" help:"Name of the sink in processor.sinks."`
	Entity  []string `placeholder:"NAME" help:"Entity types, such as Invoice (comma-separated; default: all)."`
	ID      []string `name:"id" placeholder:"ID" help:"Record ids of a single --entity (comma-separated)."`
	Since   moment   `placeholder:"TIME" help:"Select records last updated or deleted from TIME on: 2026-11-20, 2026-11-20T15:04:05Z, or 36h or 7d ago."`
	Until   moment   `placeholder:"TIME" help:"Select records last updated or deleted before TIME."`
	JSON    bool     `help:"Print the result as one JSON object."`
	consent `embed:""`

	company string
}

// named is the realm with the name of its company.
func (c *replayCmd) named() string { return companies{c.Realm: c.company}.named(c.Realm) }

// Help is the long help of the command.
func (replayCmd) Help() string {
	return `Reads records of a company from QuickBooks again and has the processor deliver them to one sink, whatever that
sink has of them: the same version is delivered again, marked as learned by replay, an older one never. The
other sinks get nothing. It is for a sink that lost or spoiled what it was given.

Deletions in the range are replayed too where QuickBooks still tells of them, for 30 days; what it does not is
said. --dry-run counts the records and the calls. The reading costs one metered call for 1,000 records, the delivery one for 400; live work goes first.
The settings are the services' own: LEDGERFEED_NATS_URL, LEDGERFEED_REDIS_URL, LEDGERFEED_CONNECTION_KEYS,
LEDGERFEED_QBO_CLIENT_ID, LEDGERFEED_QBO_CLIENT_SECRET.

Examples:
  ledgerfeed replay --realm 9341453000000001 --sink postgres --since 7d --dry-run
  ledgerfeed replay --realm 9341453000000001 --sink crm --entity Invoice,Bill --since 2026-11-20 --until 2026-11-21 --yes
  ledgerfeed replay --realm 9341453000000001 --sink crm --entity Invoice --id 145,146`
}

func (c *replayCmd) validate() error {
	if err := validRealms("--realm", c.Realm); err != nil {
		return err
	}
	names, err := entities(c.Entity)
	if err != nil {
		return err
	}
	c.Entity = names
	if len(c.ID) > 0 && (len(c.Entity) != 1 || !c.Since.time().IsZero() || !c.Until.time().IsZero()) {
		return lifecycle.Usage(errors.New("--id: give one --entity that the ids are of, and neither --since nor --until"))
	}
	if slices.Contains(c.ID, "") {
		return lifecycle.Usage(errors.New(`--id "": it is empty`))
	}
	return c.Since.before(c.Until)
}

// Run replays.
func (c *replayCmd) Run(ctx context.Context, p process) error {
	if err := c.validate(); err != nil {
		return err
	}
	servers, err := openServers(ctx, p)
	if err != nil {
		return err
	}
	defer servers.close(ctx)
	if err := errors.Join(sinkKnown(ctx, servers.store, c.Sink), c.connected(ctx, servers.connections)); err != nil {
		return err
	}
	if err := c.possible(p); err != nil {
		return err
	}
	names, err := servers.store.CompanyNames(ctx, []string{c.Realm})
	if err != nil {
		return err
	}
	c.company = names[c.Realm]
	if err := c.ask(ctx, p, fmt.Sprintf("deliver records of realm %s to sink %s again?", c.named(), c.Sink)); err != nil {
		return err
	}
	o := replay.Options{
		Stream: servers.broker, QBO: servers.client, Realm: c.Realm, Sink: c.Sink, Entities: c.Entity, IDs: c.ID,
		Since: c.Since.time(), Until: c.Until.time(),
	}
	r, err := c.replay(ctx, p, o)
	switch {
	case err != nil && c.DryRun:
		return fmt.Errorf("realm %s: %w", c.Realm, err)
	case err != nil:
		return fmt.Errorf("realm %s: %w (%d records and %d deletions are on their way already; it may be repeated)", c.Realm, err, r.Records, r.Deletions)
	}
	return c.print(p, r)
}

// replay runs it, or its plan, and shows how far it is.
func (c *replayCmd) replay(ctx context.Context, p process, o replay.Options) (replay.Result, error) {
	bar := newProgress(p.stderr, -1, "reading")
	o.Progress = func(r replay.Result) {
		bar.describe("reading " + r.Entity + ": records")
		bar.show(r.Records + r.Deletions)
	}
	run := replay.Run
	if c.DryRun {
		run = replay.Plan
	}
	r, err := run(ctx, o)
	bar.end()
	for _, note := range r.Notes {
		fmt.Fprintln(p.stderr, "note:", note)
	}
	return r, err
}

func (c *replayCmd) print(p process, r replay.Result) error {
	if c.JSON {
		return json.NewEncoder(p.stdout).Encode(struct {
			Realm          string   `json:"realm"`
			Company        string   `json:"company,omitempty"`
			Records        int      `json:"records"`
			Deletions      int      `json:"deletions"`
			Calls          int      `json:"calls"`
			HydrationCalls int      `json:"hydration_calls"`
			DryRun         bool     `json:"dry_run"`
			Notes          []string `json:"notes,omitempty"`
		}{c.Realm, c.company, r.Records, r.Deletions, r.Calls, r.Hydration, c.DryRun, r.Notes})
	}
	if c.DryRun {
		_, err := fmt.Fprintf(p.stdout, "would replay %d records of realm %s to %s, and what was deleted: %d calls to find them, at least %d to read them\n",
			r.Records, c.named(), c.Sink, r.Calls, r.Hydration)
		return err
	}
	_, err := fmt.Fprintf(p.stdout, "%d records and %d deletions of realm %s are on their way to %s: %d calls to find them\n",
		r.Records, r.Deletions, c.named(), c.Sink, r.Calls)
	return err
}

// connected refuses a realm that cannot be read.
func (c *replayCmd) connected(ctx context.Context, connections *connection.Store) error {
	conn, err := connections.Get(ctx, c.Realm)
	if err != nil {
		return fmt.Errorf("realm %s: %w", c.Realm, err)
	}
	if conn.State != connection.Live {
		return conn.Unusable()
	}
	return nil
}

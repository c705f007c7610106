package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"text/tabwriter"

	"github.com/ledgerfeed/ledgerfeed/pkg/config"
	actions "github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/action"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/erasure"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
)

type realmEraseCmd struct {
	Realm   string `arg:"" help:"Company id (realmId)."`
	Sinks   bool   `help:"Also delete the company's PostgreSQL rows, file lines and LF_CHANGES messages from processor.sinks."`
	Force   bool   `help:"Erase a connected company; its authorisation is revoked at Intuit first."`
	consent `embed:""`
	JSON    bool `help:"Print one JSON object."`
}

// Help is the long help of the command.
func (realmEraseCmd) Help() string {
	return `Deletes everything that is kept of a company: tokens, marks, cursors, statistics, gaps, dead letters and queued
messages; with --sinks also its rows in PostgreSQL, its lines in files of this machine and its messages on LF_CHANGES.
Disconnect the company first, or give --force. What cannot be deleted here is named: what receivers and subscribers
have stored, backups, logs.

Webhooks that still come are dropped, and running services keep nothing of the company, until it is connected again.
The command waits for what they have in hand (processor.write_timeout and some seconds). The log of actions says that
the company was erased, by whom and when. Interrupted, run it again.

Give it the settings of the services: LEDGERFEED_REDIS_URL, LEDGERFEED_NATS_URL, LEDGERFEED_CONNECTION_KEYS,
LEDGERFEED_QBO_CLIENT_ID and _SECRET, and LEDGERFEED_PROCESSOR_SINKS for --sinks.

Examples:
  ledgerfeed realm erase 9341453000000001 --sinks --dry-run
  ledgerfeed realm disconnect 9341453000000001 && ledgerfeed realm erase 9341453000000001 --sinks --yes`
}

// eraseConfig is what is read beside the settings of the servers.
type eraseConfig struct {
	Processor processor.ProcessorConfig `koanf:"processor"`
}

// Validate names every setting that cannot be used.
func (c eraseConfig) Validate() error { return c.Processor.Validate() }

// Run erases.
func (c *realmEraseCmd) Run(ctx context.Context, p process) error {
	if err := validRealms("realm", c.Realm); err != nil {
		return err
	}
	if err := c.possible(p); err != nil {
		return err
	}
	cfg := eraseConfig{processor.DefaultProcessorConfig()}
	if err := config.Load(&cfg, "", os.Environ()); err != nil {
		return err
	}
	if c.Sinks && len(cfg.Processor.Sinks) == 0 {
		return errors.New("--sinks: processor.sinks is empty; set LEDGERFEED_PROCESSOR_SINKS as the processors have it")
	}
	s, err := openServers(ctx, p)
	if err != nil {
		return err
	}
	defer s.close(ctx)
	log, err := p.logger()
	if err != nil {
		return err
	}
	by, _ := actions.System(os.Environ())
	run := erasure.New(c.Realm, erasure.Options{
		State: s.store, Stream: s.broker, Connections: s.connections, Revoker: s.oauth,
		Sinks: c.Sinks, Processor: cfg.Processor, Force: c.Force, By: by, Logger: log.Named("erasure"),
		Progress: func(step string) { fmt.Fprintf(p.stderr, "%s\n", step) },
	})
	if err := run.Check(ctx); err != nil {
		return away(ctx, s, fmt.Errorf("realm %s: %w", c.Realm, err))
	}
	found, err := run.Look(ctx)
	if err != nil {
		return away(ctx, s, fmt.Errorf("realm %s: %w", c.Realm, err))
	}
	if c.DryRun {
		return c.print(p, found, "would erase")
	}
	names, err := s.store.CompanyNames(ctx, []string{c.Realm})
	if err != nil {
		return away(ctx, s, err)
	}
	if err := c.ask(ctx, p, fmt.Sprintf("erase everything of realm %s for good?", companies(names).named(c.Realm))); err != nil {
		return err
	}
	report, err := run.Erase(ctx)
	if err != nil {
		return away(ctx, s, fmt.Errorf("realm %s is not erased as a whole, run it again: %w", c.Realm, err))
	}
	return c.print(p, report, "erased")
}

func (c *realmEraseCmd) print(p process, r erasure.Report, done string) error {
	if c.JSON {
		return json.NewEncoder(p.stdout).Encode(r)
	}
	fmt.Fprintf(p.stdout, "%s realm %s\n", done, r.Realm)
	t := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	for _, kind := range slices.Sorted(maps.Keys(r.Redis)) {
		fmt.Fprintf(t, "  redis %s\t%d\n", kind, r.Redis[kind])
	}
	for _, name := range slices.Sorted(maps.Keys(r.Streams)) {
		fmt.Fprintf(t, "  stream %s\t%d\n", name, r.Streams[name])
	}
	for _, sink := range r.Sinks {
		for _, table := range slices.Sorted(maps.Keys(sink.Removed)) {
			fmt.Fprintf(t, "  sink %s %s\t%d\n", plain(sink.Sink), table, sink.Removed[table])
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(p.stdout, "what stays:")
	for _, left := range r.Left {
		fmt.Fprintf(p.stdout, "  %s\n", plain(left))
	}
	return nil
}

// Package cli is the command line of the ledgerfeed tool: its commands, their
// flags and help, and how their outcome becomes an exit code.
//
// An unknown flag, a flag that cannot be used and an unknown environment
// variable with the prefix LEDGERFEED_ are refused before anything starts, with
// one line that names the flag and the value. Exit codes are those of
// pkg/lifecycle.
//
// It does no work itself: running the feed is the package dev.
package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/alecthomas/kong"
	"github.com/willabides/kongplete"

	"github.com/ledgerfeed/ledgerfeed/pkg/config"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// Config is what the tool reads from the environment: LEDGERFEED_LOG_LEVEL and
// LEDGERFEED_LOG_FORMAT. Everything else is a flag, so that a shell set up for
// a production service cannot point `dev` at its servers.
type Config struct {
	Log telemetry.LogConfig `koanf:"log"`
	Sim SimConfig           `koanf:"sim"`
}

// DefaultConfig logs what a person should look at, as text.
func DefaultConfig() Config {
	return Config{Log: telemetry.LogConfig{Level: "warn", Format: "console"}}
}

type grammar struct {
	Dev       devCmd       `cmd:"" help:"Run the whole feed locally against a simulated QuickBooks."`
	Send      sendCmd      `cmd:"" help:"Post a signed webhook body to an ingress."`
	Load      loadCmd      `cmd:"" help:"Load-test an ingress with signed webhooks and report latencies."`
	Verify    verifyCmd    `cmd:"" help:"Verify the signature of a webhook body offline."`
	Sim       simCmd       `cmd:"" help:"Run a simulated QuickBooks for services that run elsewhere."`
	Chaos     chaosCmd     `cmd:"" help:"Run the feed under injected faults and verify its guarantees."`
	Dead      deadCmd      `cmd:"" help:"Manage dead letters."`
	Cursor    cursorCmd    `cmd:"" help:"Inspect and rewind cursors."`
	Scan      scanCmd      `cmd:"" help:"Start, watch and cancel scans."`
	Backfill  backfillCmd  `cmd:"" help:"Read all records of companies again and deliver what the sinks lack."`
	Gap       gapCmd       `cmd:"" help:"Inspect gaps: changes that no webhook announced."`
	Deletions deletionsCmd `cmd:"" help:"Approve or reject bulk deletions that are on hold."`
	Audit     auditCmd     `cmd:"" help:"Compare a Postgres sink with QuickBooks and repair it."`
	Replay    replayCmd    `cmd:"" help:"Deliver records from QuickBooks to one sink again."`
	Connect   connectCmd   `cmd:"" help:"Serve the pages where people connect their companies."`
	Realm     realmCmd     `cmd:"" help:"Manage companies."`
	Token     tokenCmd     `cmd:"" help:"Manage the OAuth tokens of companies."`
	Budget    budgetCmd    `cmd:"" help:"Show metered API calls: this month, forecast, top companies."`
	Doctor    doctorCmd    `cmd:"" help:"Diagnose missing webhooks and undelivered changes."`
	Sink      sinkCmd      `cmd:"" help:"Inspect, pause and resume sinks."`
	Actions   actionsCmd   `cmd:"" help:"List and verify the audit trail of operator actions."`
	Console   consoleCmd   `cmd:"" help:"Serve the web console and its API."`
	Setup     setupCmd     `cmd:"" help:"Create or migrate streams, consumers and tables."`
	Secrets   secretsCmd   `cmd:"" help:"Generate certificates, keys, users and passwords for a deployment."`
	Session   sessionCmd   `cmd:"" help:"Manage console sessions."`
	Config    configCmd    `cmd:"" help:"Show and check the settings of the services."`
	Version   versionCmd   `cmd:"" help:"Print the version."`

	Completion  completionCmd  `cmd:"" help:"Print a shell completion script."`
	Healthcheck healthcheckCmd `cmd:"" help:"Check that a console or simulator is ready."`
}

// process is what a command gets beside its flags.
type process struct {
	config         Config
	started        time.Time
	stdin          io.Reader
	stdout, stderr io.Writer
}

// Main runs the command that os.Args names and returns the exit code. started
// is when the process started.
func Main(started time.Time) int {
	return lifecycle.Main("ledgerfeed", func(ctx context.Context) error {
		p := process{config: DefaultConfig(), started: started, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
		return p.run(ctx, os.Args[1:], os.Environ())
	})
}

func (p process) run(ctx context.Context, args, environ []string) error {
	parser, err := kong.New(&grammar{},
		kong.Name("ledgerfeed"),
		kong.Description("A gap-free change feed for QuickBooks Online."),
		kong.Writers(p.stdout, p.stderr),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.BindTo(ctx, (*context.Context)(nil)),
	)
	if err != nil {
		return fmt.Errorf("build the command line: %w", err)
	}
	// Ends the process when a shell asks for suggestions.
	kongplete.Complete(parser)
	cmd, err := parser.Parse(args)
	if err != nil {
		return lifecycle.Usage(fmt.Errorf("%w (see ledgerfeed --help)", err))
	}
	if err := config.Load(&p.config, "", environ); err != nil {
		return lifecycle.Usage(err)
	}
	if err := p.config.Log.Validate(); err != nil {
		return lifecycle.Usage(err)
	}
	err = cmd.Run(p)
	p.record(ctx, cmd, environ, err)
	return err
}

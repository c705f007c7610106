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
	Dev       devCmd       `cmd:"" help:"Run the whole feed on this machine, with a simulated QuickBooks."`
	Send      sendCmd      `cmd:"" help:"Post a signed webhook body to an ingress."`
	Load      loadCmd      `cmd:"" help:"Post signed webhooks at a steady rate and measure the answers."`
	Verify    verifyCmd    `cmd:"" help:"Check a webhook body against its signature, offline."`
	Sim       simCmd       `cmd:"" help:"Serve a simulated QuickBooks for services that run elsewhere."`
	Chaos     chaosCmd     `cmd:"" help:"Run the real feed while everything fails, and judge what it kept."`
	Dead      deadCmd      `cmd:"" help:"List, show, requeue and purge what could not be delivered."`
	Cursor    cursorCmd    `cmd:"" help:"List, show and rewind how far each company is delivered."`
	Scan      scanCmd      `cmd:"" help:"Ask the reconcilers for a scan now, watch it, cancel it."`
	Backfill  backfillCmd  `cmd:"" help:"Have everything of a company read again and compared with the sinks."`
	Gap       gapCmd       `cmd:"" help:"Show which changes webhooks did not tell of, why, and what to do."`
	Deletions deletionsCmd `cmd:"" help:"Decide on deletions that are held because they are many."`
	Audit     auditCmd     `cmd:"" help:"Compare a Postgres sink with QuickBooks, and repair it."`
	Replay    replayCmd    `cmd:"" help:"Read records from QuickBooks again and deliver them to one sink."`
	Connect   connectCmd   `cmd:"" help:"Serve the pages by which people connect their companies."`
	Realm     realmCmd     `cmd:"" help:"List, show, park and disconnect companies."`
	Token     tokenCmd     `cmd:"" help:"Work on the OAuth tokens of connected companies."`
	Budget    budgetCmd    `cmd:"" help:"Show the metered calls of the month, the forecast and who takes them."`
	Doctor    doctorCmd    `cmd:"" help:"Look for what keeps webhooks and changes from arriving."`
	Sink      sinkCmd      `cmd:"" help:"List, pause and resume sinks."`
	Actions   actionsCmd   `cmd:"" help:"List who did what to the feed, and verify that nothing was changed."`
	Console   consoleCmd   `cmd:"" help:"Serve the console: pages and an API to watch and operate a feed."`
	Setup     setupCmd     `cmd:"" help:"Create and change streams, consumers and tables, as a job."`
	Secrets   secretsCmd   `cmd:"" help:"Make the secrets of a deployment: certificates, keys, users and passwords."`
	Session   sessionCmd   `cmd:"" help:"End the sessions of the console."`
	Config    configCmd    `cmd:"" help:"Show and check the settings of the services."`
	Version   versionCmd   `cmd:"" help:"Print the version."`

	Completion  completionCmd  `cmd:"" help:"Print what has a shell complete commands and flags."`
	Healthcheck healthcheckCmd `cmd:"" help:"Ask a running console or simulator whether it is ready."`
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

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/config"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
)

// SetupConfig is what `ledgerfeed setup` reads from the environment: the services'
// variables and its own.
type SetupConfig struct {
	NATS      stream.Config             `koanf:"nats"`
	Processor processor.ProcessorConfig `koanf:"processor"`
	Setup     SetupOnlyConfig           `koanf:"setup"`
}

// SetupOnlyConfig is what no service reads.
type SetupOnlyConfig struct {
	PostgresUser string `koanf:"postgres_user" doc:"Role that ledgerfeed setup uses to migrate the tables of Postgres sinks, with its password in PGPASSFILE or PGPASSWORD. The role in the sink's URL is then granted the rights of a writer. Empty: the role in the URL migrates."`
}

// DefaultSetupConfig is the services' default.
func DefaultSetupConfig() SetupConfig {
	return SetupConfig{NATS: stream.DefaultConfig(), Processor: processor.DefaultProcessorConfig()}
}

// Validate names every setting that cannot be used.
func (c SetupConfig) Validate() error { return errors.Join(c.NATS.Validate(), c.Processor.Validate()) }

type setupCmd struct {
	Sink []string      `placeholder:"NAME" help:"Name of a sink that your own program provides (comma-separated)."`
	Wait time.Duration `default:"2m" placeholder:"TIME" help:"Time to wait for servers to answer (${default})."`
}

// Help is the long help of the command.
func (setupCmd) Help() string {
	return `Creates the streams and consumers in NATS and the tables in PostgreSQL, changes those that differ from the settings,
and gives the role that writes its rights. Run it as a job before the services of each version start; it may be
repeated, and run beside services. Services that are to check only are set to LEDGERFEED_NATS_SETUP=verify and
LEDGERFEED_PROCESSOR_POSTGRES_SETUP=verify: they wait for it, and need no right to create anything.

It reads the settings of the services (LEDGERFEED_NATS_..., LEDGERFEED_PROCESSOR_...), with users of its own:
LEDGERFEED_NATS_NKEY_FILE and LEDGERFEED_SETUP_POSTGRES_USER. It shrinks no stream and deletes no message.

Exits 0 when everything is as configured, 1 when something cannot be changed, 2 for wrong settings, 3 when a
server does not answer.

Examples:
  ledgerfeed setup
  LEDGERFEED_SETUP_POSTGRES_USER=ledgerfeed_setup ledgerfeed setup
  ledgerfeed setup --sink warehouse --wait 10m`
}

// Run sets up.
func (c *setupCmd) Run(ctx context.Context, p process) error {
	cfg := DefaultSetupConfig()
	if err := config.Load(&cfg, "", os.Environ()); err != nil {
		return err
	}
	cfg.NATS.Setup = stream.SetupCreate
	err := c.again(ctx, func() error { return c.setUp(ctx, p, cfg) })
	if errors.Is(err, stream.ErrUnreachable) {
		return lifecycle.Unreachable("", err)
	}
	return err
}

// again tries until all servers have answered, or the time is over.
func (c *setupCmd) again(ctx context.Context, try func() error) error {
	deadline := time.Now().Add(c.Wait)
	for {
		err := try()
		if err == nil || !stream.Temporary(err) || time.Now().After(deadline) {
			return err
		}
		if lifecycle.Sleep(ctx, time.Second) != nil {
			return err
		}
	}
}

func (c *setupCmd) setUp(ctx context.Context, p process, cfg SetupConfig) error {
	log, err := p.logger()
	if err != nil {
		return err
	}
	conn, err := stream.Connect(ctx, stream.Options{Config: cfg.NATS, Name: "setup", Logger: log.Named("nats")})
	if err != nil {
		return err
	}
	defer conn.Close()
	done := func(what string) { fmt.Fprintf(p.stdout, "ok  %s\n", what) }
	if err := errors.Join(conn.EnsureTopology(ctx), conn.EnsureHeartbeats(ctx), conn.EnsureActions(ctx)); err != nil {
		return err
	}
	done("streams")
	return processor.SetUp(ctx, processor.SetupOptions{
		Config: cfg.Processor, Broker: conn, Sinks: c.Sink, PostgresUser: cfg.Setup.PostgresUser, Logger: log.Named("sink"), Done: done,
	})
}

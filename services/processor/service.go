package processor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/backend"
	"github.com/ledgerfeed/ledgerfeed/pkg/config"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/reload"
	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// Config is all that an operator sets of the service.
type Config struct {
	backend.Config `koanf:",squash"`
	Trace          telemetry.TraceConfig `koanf:"trace"`
	Processor      ProcessorConfig       `koanf:"processor"`

	compiled int // sinks that the program brings itself
}

// DefaultConfig is what is used where nothing is set.
func DefaultConfig() Config {
	return Config{Config: backend.DefaultConfig(), Trace: telemetry.DefaultTraceConfig(), Processor: DefaultProcessorConfig()}
}

// Validate names every setting that cannot be used.
func (c Config) Validate() error {
	var none error
	if len(c.Processor.Sinks) == 0 && c.compiled == 0 {
		none = errors.New("processor.sinks is empty: set a sink, such as jsonl:changes.jsonl")
	}
	return errors.Join(c.Config.Validate(), c.Trace.Validate(), c.Processor.Validate(), none)
}

// files are the files that settings name, by setting.
func (c Config) files(environ []string) map[string]string {
	files := c.Files()
	for key, path := range map[string]string{
		"PGPASSFILE":                         config.Lookup(environ, "PGPASSFILE"), // pgx reads it from there
		"processor.webhook_client_cert_file": c.Processor.WebhookClientCertFile,
		"processor.webhook_client_key_file":  c.Processor.WebhookClientKeyFile,
	} {
		if path != "" {
			files[key] = path
		}
	}
	return files
}

// Serve runs the service as the environment sets it, until ctx ends.
func Serve(ctx context.Context, environ []string) error { return serve(ctx, environ, nil) }

// ServeWith is Serve with sinks that are compiled in, beside those of
// processor.sinks, of which there may be none then. It closes them at the end,
// also when the start fails. It is made for the Serve of a lifecycle.Program.
func ServeWith(sinks ...Sink) func(ctx context.Context, environ []string) error {
	return func(ctx context.Context, environ []string) error {
		return errors.Join(serve(ctx, environ, sinks), closeSinks(sinks))
	}
}

func serve(ctx context.Context, environ []string, compiled []Sink) error {
	collectLess()
	settings, err := reload.Load(environ, func() Config {
		c := DefaultConfig()
		c.compiled = len(compiled)
		return c
	}, func(c Config) map[string]string { return c.files(environ) })
	if err != nil {
		return err
	}
	defer settings.Close()
	cfg := settings.Get()
	return backend.Start(ctx, "processor", settings, os.Stderr, func(b *backend.Backend) (func(context.Context) error, error) {
		b.Group.StopTimeout = cfg.Processor.DrainTimeout + settleTimeout + 5*time.Second
		var sinks []Sink
		err := b.Wait(ctx, "sinks", func() (err error) {
			sinks, err = OpenSinks(ctx, settings.Get().Processor, b.Stream, b.Log.Named("sink"))
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("open the sinks: %w", err)
		}
		b.Group.Defer("sinks", func(context.Context) error { return closeSinks(sinks) })
		if err := settings.Use(func(c Config) error { return takeSecrets(sinks, cfg.Processor, c.Processor) }); err != nil {
			return nil, err
		}
		tracing, err := telemetry.NewTracing(ctx, cfg.Trace, "ledgerfeed-processor", b.Log.Named("traces"))
		if err != nil {
			return nil, err
		}
		b.Group.Defer("traces", func(ctx context.Context) error { tracing.Shutdown(ctx); return nil })
		p, err := New(Options{
			Config: cfg.Processor, Stream: b.Stream, State: b.State, QBO: b.QBO, Connections: b.Connections, Sinks: append(sinks, compiled...),
			Logger: b.Log.Named("processor"), Registerer: b.Registry, Now: sabotage.Now, Tracer: tracing.Tracer("processor"),
		})
		if err != nil {
			return nil, lifecycle.Usage(err)
		}
		b.Details = p.Health
		return p.Run, nil
	})
}

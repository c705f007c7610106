package reconciler

import (
	"context"
	"errors"
	"os"

	"github.com/ledgerfeed/ledgerfeed/pkg/backend"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/reload"
	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// Config is all that an operator sets of the service.
type Config struct {
	backend.Config `koanf:",squash"`
	Trace          telemetry.TraceConfig `koanf:"trace"`
	Reconciler     ReconcilerConfig      `koanf:"reconciler"`
}

// DefaultConfig is what is used where nothing is set.
func DefaultConfig() Config {
	return Config{Config: backend.DefaultConfig(), Trace: telemetry.DefaultTraceConfig(), Reconciler: DefaultReconcilerConfig()}
}

// Validate names every setting that cannot be used.
func (c Config) Validate() error {
	return errors.Join(c.Config.Validate(), c.Trace.Validate(), c.Reconciler.Validate())
}

// Serve runs the service as the environment sets it, until ctx ends.
func Serve(ctx context.Context, environ []string) error {
	settings, err := reload.Load(environ, DefaultConfig, func(c Config) map[string]string { return c.Files() })
	if err != nil {
		return err
	}
	defer settings.Close()
	cfg := settings.Get()
	return backend.Start(ctx, "reconciler", settings, os.Stderr, func(b *backend.Backend) (func(context.Context) error, error) {
		tracing, err := telemetry.NewTracing(ctx, cfg.Trace, "ledgerfeed-reconciler", b.Log.Named("traces"))
		if err != nil {
			return nil, err
		}
		b.Group.Defer("traces", func(ctx context.Context) error { tracing.Shutdown(ctx); return nil })
		r, err := New(Options{
			Config: cfg.Reconciler, Stream: b.Stream, State: b.State, QBO: b.QBO, Connections: b.Connections,
			Usage: b.Budget.Usage, Logger: b.Log.Named("reconciler"), Registerer: b.Registry, Now: sabotage.Now,
			Tracer: tracing.Tracer("reconciler"),
		})
		if err != nil {
			return nil, lifecycle.Usage(err)
		}
		return r.Run, nil
	})
}

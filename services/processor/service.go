package processor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/config"
	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// Config is all that an operator sets of the service.
type Config struct {
	NATS       stream.Config         `koanf:"nats"`
	Redis      state.Config          `koanf:"redis"`
	Log        telemetry.LogConfig   `koanf:"log"`
	Admin      telemetry.AdminConfig `koanf:"admin"`
	QBO        qbo.Config            `koanf:"qbo"`
	Connection connection.Config     `koanf:"connection"`
	Processor  ProcessorConfig       `koanf:"processor"`
}

// DefaultConfig is what is used where nothing is set.
func DefaultConfig() Config {
	return Config{
		NATS:      stream.DefaultConfig(),
		Redis:     state.DefaultConfig(),
		Log:       telemetry.DefaultLogConfig(),
		Admin:     telemetry.DefaultAdminConfig(),
		QBO:       qbo.DefaultConfig(),
		Processor: DefaultProcessorConfig(),
	}
}

// Validate names every setting that cannot be used.
func (c Config) Validate() error {
	var none error
	if len(c.Processor.Sinks) == 0 {
		none = errors.New("processor.sinks is empty: name where changes go, such as jsonl:changes.jsonl")
	}
	return errors.Join(c.NATS.Validate(), c.Redis.Validate(), c.Log.Validate(), c.Admin.Validate(),
		c.QBO.Validate(), c.Connection.Validate(), c.Processor.Validate(), none)
}

// Serve runs the service as the environment sets it, until ctx ends.
func Serve(ctx context.Context, environ []string) error {
	cfg := DefaultConfig()
	if err := config.Load(&cfg, "", environ); err != nil {
		return err
	}
	log, err := telemetry.NewLogger(cfg.Log, os.Stderr)
	if err != nil {
		return lifecycle.Usage(err)
	}
	s := &service{cfg: cfg, log: log, group: lifecycle.Group{
		Logger:      log.Named("lifecycle"),
		StopTimeout: cfg.Processor.DrainTimeout + settleTimeout + 5*time.Second,
	}}
	if err := s.wire(ctx); err != nil {
		return errors.Join(err, s.close(ctx))
	}
	log.Info("service started", telemetry.Build(lifecycle.Version()), telemetry.Address(s.admin.Addr()))
	defer log.Info("service stopped")
	return s.group.Run(ctx)
}

type service struct {
	cfg   Config
	log   *zap.Logger
	group lifecycle.Group
	admin *telemetry.Admin
}

// wire opens the parts in the order they stand on each other.
func (s *service) wire(ctx context.Context) error {
	store, err := state.Open(ctx, state.Options{Config: s.cfg.Redis, Logger: s.log.Named("redis")})
	if err != nil {
		return unreachable(err)
	}
	s.group.Defer("redis", func(context.Context) error { return store.Close() })
	conn, err := stream.Connect(ctx, stream.Options{Config: s.cfg.NATS, Name: "processor", Logger: s.log.Named("nats")})
	if err != nil {
		return unreachable(err)
	}
	s.group.Defer("nats", func(context.Context) error { conn.Close(); return nil })
	if err := conn.EnsureTopology(ctx); err != nil {
		return unreachable(err)
	}
	oauth, err := s.cfg.QBO.OAuth()
	if err != nil {
		return lifecycle.Usage(err)
	}
	connections, err := connection.New(connection.Options{
		State: store, Config: s.cfg.Connection, Refresher: oauth, Logger: s.log.Named("connection"),
	})
	if err != nil {
		return lifecycle.Usage(err)
	}
	client, err := s.cfg.QBO.Client(connections, store.Limiter(state.DefaultLimits()))
	if err != nil {
		return lifecycle.Usage(err)
	}
	sinks, err := OpenSinks(ctx, s.cfg.Processor.Sinks)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	s.group.Defer("sinks", func(context.Context) error { return closeSinks(sinks) })
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	p, err := New(Options{
		Config: s.cfg.Processor, Stream: conn, State: store, QBO: client, Connections: connections, Sinks: sinks,
		Logger: s.log.Named("processor"), Registerer: registry,
	})
	if err != nil {
		return lifecycle.Usage(err)
	}
	s.admin, err = telemetry.NewAdmin(telemetry.AdminOptions{
		Listen: s.cfg.Admin.Listen, Gatherer: registry, Logger: s.log.Named("admin"),
		Ready: func(ctx context.Context) error { return errors.Join(store.Ping(ctx), conn.Ready(ctx)) },
	})
	if err != nil {
		return err
	}
	s.group.Go("admin", s.admin.Run)
	s.group.Go("processor", p.Run)
	return nil
}

// close ends what wire had opened when it failed.
func (s *service) close(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return s.group.Run(ctx)
}

// unreachable gives the error of a server that does not answer its exit code.
// The error names the address already.
func unreachable(err error) error {
	if errors.Is(err, state.ErrUnreachable) || errors.Is(err, stream.ErrUnreachable) {
		return &unreachableError{err}
	}
	return fmt.Errorf("start: %w", err)
}

type unreachableError struct{ error }

func (e *unreachableError) Unwrap() error { return e.error }

func (e *unreachableError) ExitCode() int { return lifecycle.ExitUnreachable }

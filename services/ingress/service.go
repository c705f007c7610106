package ingress

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/memlimit"
	"github.com/ledgerfeed/ledgerfeed/pkg/reload"
	"github.com/ledgerfeed/ledgerfeed/pkg/startup"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// Serve runs the service as the environment sets it, until ctx ends. A broker that does not
// answer at the start is waited for, with the admin endpoint open.
func Serve(ctx context.Context, environ []string) error {
	settings, err := reload.Load(environ, DefaultConfig, Config.files)
	if err != nil {
		return err
	}
	defer settings.Close()
	s := service{settings: settings, config: settings.Get(), registry: telemetry.NewRegistry(lifecycle.Version())}
	s.memory = s.config.Ingress.limitMemory(environ)
	if s.log, err = telemetry.NewLogger(s.config.Log, os.Stderr); err != nil {
		return lifecycle.Usage(err)
	}
	s.group.Logger = s.log.Named("lifecycle")
	if err := s.open(ctx); err != nil {
		if ctx.Err() != nil {
			s.log.Info("shutdown requested during startup", telemetry.Error(err))
			return s.giveUp(ctx) // no failure
		}
		return errors.Join(startError(err), s.giveUp(ctx))
	}
	return s.group.Run(ctx)
}

// service is what runs around the server.
type service struct {
	settings *reload.Settings[Config]
	config   Config
	log      *zap.Logger
	registry *prometheus.Registry
	health   *startup.Health
	memory   *memlimit.Limit
	group    lifecycle.Group // closes what was opened
}

// open opens the parts in the order they stand on each other.
func (s *service) open(ctx context.Context) error {
	if err := s.settings.Register(s.registry); err != nil {
		return err
	}
	var err error
	s.health, err = startup.Listen(ctx, startup.Options{Listen: s.config.Admin.Listen, Pprof: s.config.Admin.Pprof, Gatherer: s.registry, Logger: s.log, Group: &s.group})
	if err != nil {
		return err
	}
	s.group.Start(ctx, "memory", func(ctx context.Context) error { return s.memory.Run(ctx, s.log.Named("memory")) })
	s.group.Start(ctx, "settings", func(ctx context.Context) error { return s.settings.Run(ctx, s.log.Named("reload")) })
	tracing, err := telemetry.NewTracing(ctx, s.config.Trace, "ledgerfeed-ingress", s.log.Named("traces"))
	if err != nil {
		return err
	}
	s.group.Defer("traces", func(ctx context.Context) error { tracing.Shutdown(ctx); return nil })
	conn, kept, err := s.connect(ctx)
	if err != nil {
		return err
	}
	readiness := telemetry.NewReadiness(telemetry.ReadinessOptions{Check: conn.Ready})
	server, err := New(Options{
		Config: s.settings.Get().Ingress, Publisher: conn, Ready: readiness.Ready,
		Beat: func(ctx context.Context) error { return conn.Beat(ctx, "ingress") }, Tracer: tracing.Tracer("ingress"),
		Logger: s.log.Named("ingress"), Registerer: s.registry,
	})
	if err != nil {
		return err
	}
	if err := server.follow(s.settings, conn); err != nil {
		return errors.Join(err, server.Close())
	}
	s.health.Started(server.Ready, kept.Describe)
	s.group.Go("readiness", readiness.Run)
	s.group.Go("ingress", server.Run)
	s.group.Go("lateness", server.watchLateness)
	s.group.Go("streams", conn.WatchDrift)
	s.log.Info("service started", telemetry.Build(lifecycle.Version()), telemetry.Address(s.health.Addr()))
	return nil
}

// connect opens the broker, with the streams in place and kept as was promised.
func (s *service) connect(ctx context.Context) (conn *stream.Conn, kept stream.Durability, err error) {
	err = s.health.Wait(ctx, "nats", stream.Temporary, func() (err error) {
		cfg := s.settings.Get().NATS
		if conn == nil {
			if conn, err = stream.Connect(ctx, stream.Options{Config: cfg, Name: "ingress", Logger: s.log.Named("nats"), Registerer: s.registry}); err != nil {
				conn = nil
				return err
			}
			s.group.Defer("nats", func(context.Context) error { conn.Close(); return nil })
		}
		conn.SetLogin(cfg)
		if err = conn.EnsureTopology(ctx); err != nil {
			return err
		}
		if err = conn.RequireAccess(ctx); err != nil {
			return err
		}
		kept, err = conn.RequireDurability(ctx)
		return err
	})
	return conn, kept, err
}

// giveUp closes what was opened before the start failed.
func (s *service) giveUp(ctx context.Context) error {
	ended, cancel := context.WithCancel(ctx)
	cancel()
	return s.group.Run(ended)
}

// startError gives a broker that is not the one that was promised its exit code.
func startError(err error) error {
	_, broker := errors.AsType[*stream.MismatchError](err)
	_, access := errors.AsType[*stream.AccessError](err)
	if broker || access {
		return lifecycle.Usage(err)
	}
	return fmt.Errorf("start: %w", err)
}

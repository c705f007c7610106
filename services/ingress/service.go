package ingress

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/config"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// Serve runs the service as the environment sets it, until ctx ends.
func Serve(ctx context.Context, environ []string) error {
	// From the beginning to the end: without, SIGHUP would end the process while it
	// starts, and while it finishes what is in hand (I13).
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	s := service{
		config: DefaultConfig(), environ: environ, registry: telemetry.NewRegistry(lifecycle.Version()),
		hangup: hangup, watch: config.NewWatch(settingsFiles(environ)...),
	}
	if err := config.Load(&s.config, "", environ); err != nil {
		return err
	}
	s.watch.Add(s.config.Ingress.files()...)
	s.config.Ingress.limitMemory()
	var err error
	if s.log, err = telemetry.NewLogger(s.config.Log, os.Stderr); err != nil {
		return lifecycle.Usage(err)
	}
	s.group.Logger = s.log.Named("lifecycle")
	if err := s.open(ctx); err != nil {
		if ctx.Err() != nil {
			s.log.Info("asked to end before it had started", telemetry.Error(err))
			return s.giveUp(ctx) // no failure
		}
		return errors.Join(startError(err), s.giveUp(ctx))
	}
	return s.group.Run(ctx)
}

// service is what runs around the server.
type service struct {
	config   Config
	environ  []string
	log      *zap.Logger
	registry *prometheus.Registry
	hangup   <-chan os.Signal
	watch    *config.Watch   // of what config and the certificate are read from
	group    lifecycle.Group // closes what was opened
}

// open opens the parts in the order they stand on each other.
func (s *service) open(ctx context.Context) error {
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
		Config: s.config.Ingress, Publisher: conn, Ready: readiness.Ready,
		Beat: func(ctx context.Context) error { return conn.Beat(ctx, "ingress") }, Tracer: tracing.Tracer("ingress"),
		Logger: s.log.Named("ingress"), Registerer: s.registry,
	})
	if err != nil {
		return err
	}
	admin, err := telemetry.NewAdmin(telemetry.AdminOptions{
		Listen: s.config.Admin.Listen, Gatherer: s.registry, Ready: server.Ready, Details: kept.Describe, Logger: s.log.Named("admin"),
	})
	if err != nil {
		return errors.Join(err, server.Close())
	}
	reload := &reloader{server: server, running: s.config, environ: s.environ, watch: s.watch, hangup: s.hangup, log: s.log.Named("reload")}
	s.group.Go("admin", admin.Run)
	s.group.Go("readiness", readiness.Run)
	s.group.Go("ingress", server.Run)
	s.group.Go("reload", reload.run)
	s.group.Go("streams", conn.WatchDrift)
	s.log.Info("service started", telemetry.Build(lifecycle.Version()), telemetry.Address(admin.Addr()))
	return nil
}

// connect opens the broker, with the streams in place and kept as was promised.
func (s *service) connect(ctx context.Context) (*stream.Conn, stream.Durability, error) {
	conn, err := stream.Connect(ctx, stream.Options{Config: s.config.NATS, Name: "ingress", Logger: s.log.Named("nats"), Registerer: s.registry})
	if err != nil {
		return nil, stream.Durability{}, err
	}
	s.group.Defer("nats", func(context.Context) error { conn.Close(); return nil })
	if err := conn.EnsureTopology(ctx); err != nil {
		return nil, stream.Durability{}, err
	}
	if err := conn.RequireAccess(ctx); err != nil {
		return nil, stream.Durability{}, err
	}
	kept, err := conn.RequireDurability(ctx)
	return conn, kept, err
}

// giveUp closes what was opened before the start failed.
func (s *service) giveUp(ctx context.Context) error {
	ended, cancel := context.WithCancel(ctx)
	cancel()
	return s.group.Run(ended)
}

// startError gives a broker that does not answer, or is not the one that was
// promised, its exit code.
func startError(err error) error {
	if errors.Is(err, stream.ErrUnreachable) {
		return lifecycle.Unreachable("", err)
	}
	var mismatch *stream.MismatchError
	var access *stream.AccessError
	if errors.As(err, &mismatch) || errors.As(err, &access) {
		return lifecycle.Usage(err)
	}
	return fmt.Errorf("start: %w", err)
}

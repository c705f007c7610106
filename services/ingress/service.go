package ingress

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/config"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

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
	registry := telemetry.NewRegistry(lifecycle.Version())
	conn, err := stream.Connect(ctx, stream.Options{Config: cfg.NATS, Name: "ingress", Logger: log.Named("nats"), Registerer: registry})
	if err != nil {
		return startError(err)
	}
	group := lifecycle.Group{Logger: log.Named("lifecycle")}
	group.Defer("nats", func(context.Context) error { conn.Close(); return nil })
	if err := start(ctx, &group, cfg, environ, conn, registry, log); err != nil {
		return errors.Join(startError(err), stopped(ctx, &group))
	}
	return group.Run(ctx)
}

// start adds the parts to the group, in the order they stand on each other.
func start(ctx context.Context, group *lifecycle.Group, cfg Config, environ []string, conn *stream.Conn, registry *prometheus.Registry, log *zap.Logger) error {
	if err := conn.EnsureTopology(ctx); err != nil {
		return err
	}
	if _, err := conn.RequireDurability(ctx); err != nil {
		return err
	}
	server, err := New(Options{
		Config: cfg.Ingress, Publisher: conn, Ready: conn.Ready, Logger: log.Named("ingress"), Registerer: registry,
	})
	if err != nil {
		return err
	}
	admin, err := telemetry.NewAdmin(telemetry.AdminOptions{
		Listen: cfg.Admin.Listen, Gatherer: registry, Ready: server.Ready, Logger: log.Named("admin"),
	})
	if err != nil {
		return errors.Join(err, server.Close())
	}
	group.Go("admin", admin.Run)
	group.Go("ingress", server.Run)
	group.Go("reload", (&reloader{server: server, running: cfg, environ: environ, log: log.Named("reload")}).run)
	log.Info("service started", telemetry.Build(lifecycle.Version()), telemetry.Address(admin.Addr()))
	return nil
}

// stopped closes what was opened before the start failed.
func stopped(ctx context.Context, group *lifecycle.Group) error {
	ended, cancel := context.WithCancel(ctx)
	cancel()
	return group.Run(ended)
}

// startError gives a broker that does not answer, or is not the one that was
// promised, its exit code.
func startError(err error) error {
	if errors.Is(err, stream.ErrUnreachable) {
		return lifecycle.Unreachable("", err)
	}
	var mismatch *stream.MismatchError
	if errors.As(err, &mismatch) {
		return lifecycle.Usage(err)
	}
	return fmt.Errorf("start: %w", err)
}

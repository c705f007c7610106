package backend

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// Backend is what is open. Its fields are safe for concurrent use and valid
// until Run returns.
type Backend struct {
	Log         *zap.Logger
	Registry    *prometheus.Registry
	State       *state.Store
	Stream      *stream.Conn
	Connections *connection.Store
	QBO         *qbo.Client
	Budget      *state.Budget
	// Group closes what was opened; a service adds its own parts with Defer.
	Group lifecycle.Group
	// Details is what /readyz shows beside its verdict, by name; may be nil.
	Details func() map[string]string

	admin    telemetry.AdminConfig
	problems *prometheus.GaugeVec
}

// Start opens everything as cfg says, lets the service add itself in build, and
// runs until ctx ends. name is the service's, for logs and the broker's list of
// connections.
func Start(ctx context.Context, name string, cfg Config, logs io.Writer, build func(*Backend) (run func(context.Context) error, err error)) error {
	log, err := telemetry.NewLogger(cfg.Log, logs)
	if err != nil {
		return lifecycle.Usage(err)
	}
	b := &Backend{
		Log: log, Registry: telemetry.NewRegistry(lifecycle.Version()), admin: cfg.Admin,
		Group: lifecycle.Group{Logger: log.Named("lifecycle")},
	}
	if err := b.open(ctx, name, cfg); err != nil {
		return b.giveUp(ctx, err)
	}
	run, err := build(b)
	if err != nil {
		return b.giveUp(ctx, err)
	}
	if err := b.serve(name, run); err != nil {
		return b.giveUp(ctx, err)
	}
	defer log.Info("service stopped")
	return b.Group.Run(ctx)
}

// open opens the parts in the order they stand on each other.
func (b *Backend) open(ctx context.Context, name string, cfg Config) (err error) {
	if b.State, err = state.Open(ctx, state.Options{Config: cfg.Redis, Logger: b.Log.Named("redis")}); err != nil {
		return err
	}
	b.Group.Defer("redis", func(context.Context) error { return b.State.Close() })
	if cfg.NATS.Profile != stream.Dev {
		if err := b.State.RequireSafe(ctx); err != nil {
			return err
		}
	}
	if b.Stream, err = stream.Connect(ctx, stream.Options{Config: cfg.NATS, Name: name, Logger: b.Log.Named("nats"), Registerer: b.Registry}); err != nil {
		return err
	}
	b.Group.Defer("nats", func(context.Context) error { b.Stream.Close(); return nil })
	if err := b.Stream.EnsureTopology(ctx); err != nil {
		return err
	}
	if err := b.Stream.RequireAccess(ctx); err != nil {
		return err
	}
	oauth, err := cfg.QBO.OAuth()
	if err != nil {
		return lifecycle.Usage(err)
	}
	b.Connections, err = connection.New(connection.Options{
		State: b.State, Config: cfg.Connection, Refresher: oauth, Logger: b.Log.Named("connection"), Registerer: b.Registry,
	})
	if err != nil {
		return lifecycle.Usage(err)
	}
	b.Budget = b.State.Budget(cfg.QBO.MonthlyCalls)
	limiter := b.State.Limiter(state.DefaultLimits()).Within(b.Budget)
	if b.QBO, err = cfg.QBO.Client(b.Connections, limiter, b.Budget.Observe); err != nil {
		return lifecycle.Usage(err)
	}
	b.problems = newProblems()
	b.Registry.MustRegister(newUsage(b.Budget, b.Connections), newTokens(b.Connections, b.State), b.problems)
	return nil
}

// serve adds the admin endpoint and the service to the group.
func (b *Backend) serve(name string, run func(context.Context) error) error {
	readiness := telemetry.NewReadiness(telemetry.ReadinessOptions{Check: b.ready})
	admin, err := telemetry.NewAdmin(telemetry.AdminOptions{
		Listen: b.admin.Listen, Gatherer: b.Registry, Logger: b.Log.Named("admin"), Ready: readiness.Ready, Details: b.Details,
	})
	if err != nil {
		return err
	}
	b.Group.Go("admin", admin.Run)
	b.Group.Go("readiness", readiness.Run)
	b.Group.Go("deadlines", b.Connections.Watch)
	b.Group.Go("streams", b.Stream.WatchDrift)
	b.Group.Go("redis", b.watchRedis)
	b.Group.Go(name, run)
	b.Log.Info("service started", telemetry.Build(lifecycle.Version()), telemetry.Address(admin.Addr()))
	return nil
}

// newProblems is the metric of what is wrong with Redis; none of it until that was asked.
func newProblems() *prometheus.GaugeVec {
	problems := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "ledgerfeed_redis_problems",
		Help: "Ways in which Redis may lose data, by check: version, disk, eviction, memory, replication; asked every five minutes.",
	}, []string{"check"})
	for _, check := range []string{state.CheckVersion, state.CheckDisk, state.CheckEviction, state.CheckMemory, state.CheckReplication} {
		problems.WithLabelValues(check)
	}
	return problems
}

func (b *Backend) watchRedis(ctx context.Context) error {
	return b.State.WatchServer(ctx, b.Log.Named("redis"), func(found map[string]int) {
		for check, n := range found {
			b.problems.WithLabelValues(check).Set(float64(n))
		}
	})
}

func (b *Backend) ready(ctx context.Context) error {
	return errors.Join(b.State.Ping(ctx), b.Stream.Ready(ctx))
}

// giveUp closes what was opened before the start failed.
func (b *Backend) giveUp(ctx context.Context, err error) error {
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if ctx.Err() != nil {
		b.Log.Info("asked to end before it had started", telemetry.Error(err))
		return b.Group.Run(ended) // no failure
	}
	return errors.Join(startError(err), b.Group.Run(ended))
}

// startError gives a server that does not answer its exit code. The error names
// the address already.
func startError(err error) error {
	if errors.Is(err, state.ErrUnreachable) || errors.Is(err, stream.ErrUnreachable) {
		return lifecycle.Unreachable("", err)
	}
	_, broker := errors.AsType[*stream.MismatchError](err)
	_, redis := errors.AsType[*state.UnsafeError](err)
	_, access := errors.AsType[*stream.AccessError](err)
	if broker || redis || access {
		return lifecycle.Usage(err)
	}
	return fmt.Errorf("start: %w", err)
}

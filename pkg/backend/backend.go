package backend

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/ledgerfeed/ledgerfeed/pkg/config"
	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/memlimit"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/reload"
	"github.com/ledgerfeed/ledgerfeed/pkg/startup"
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
	OAuth       *qbo.OAuth
	QBO         *qbo.Client
	Budget      *state.Budget
	// Group closes what was opened; a service adds its own parts with Defer.
	Group lifecycle.Group
	// Details is what /readyz shows beside its verdict, by name; may be nil. Set it in
	// build.
	Details func() map[string]string

	problems *prometheus.GaugeVec
	health   *startup.Health
}

// Start opens everything as the settings say, lets the service add itself in build, and
// runs until ctx ends. name is the service's, for logs and the broker's list of
// connections. A server that does not answer is waited for, with the admin endpoint open:
// /livez says that the process is alive, /readyz what is missing.
func Start[T interface{ Common() Config }](ctx context.Context, name string, settings *reload.Settings[T], logs io.Writer, build func(*Backend) (run func(context.Context) error, err error)) error {
	cfg := settings.Get().Common()
	log, err := telemetry.NewLogger(cfg.Log, logs)
	if err != nil {
		return lifecycle.Usage(err)
	}
	b := &Backend{
		Log: log, Registry: telemetry.NewRegistry(lifecycle.Version()),
		Group: lifecycle.Group{Logger: log.Named("lifecycle")},
	}
	if err := settings.Register(b.Registry); err != nil {
		return err
	}
	b.health, err = startup.Listen(ctx, startup.Options{Listen: cfg.Admin.Listen, Pprof: cfg.Admin.Pprof, Gatherer: b.Registry, Logger: log, Group: &b.Group})
	if err != nil {
		return b.giveUp(ctx, err)
	}
	memory := memlimit.Set(memoryOf(settings.Get(), settings.Environ()))
	b.Group.Start(ctx, "memory", func(ctx context.Context) error { return memory.Run(ctx, log.Named("memory")) })
	b.Group.Start(ctx, "settings", func(ctx context.Context) error { return settings.Run(ctx, log.Named("reload")) })
	run, err := open(ctx, b, name, settings, build)
	if err != nil {
		return b.giveUp(ctx, err)
	}
	b.serve(name, run)
	defer log.Info("service stopped")
	return b.Group.Run(ctx)
}

// memoryOf is what the program says of its memory, if it does.
func memoryOf(cfg any, environ []string) (o memlimit.Options) {
	if says, ok := cfg.(interface{ Memory() memlimit.Options }); ok {
		o = says.Memory()
	}
	o.Off = config.Lookup(environ, memlimit.Environment) == "off"
	return o
}

// open opens the parts in the order they stand on each other. Redis and the broker are
// asked at the same time, so that all that is missing is said.
func open[T interface{ Common() Config }](ctx context.Context, b *Backend, name string, settings *reload.Settings[T], build func(*Backend) (func(context.Context) error, error)) (run func(context.Context) error, err error) {
	current := func() Config { return settings.Get().Common() }
	var opening errgroup.Group
	opening.Go(func() error {
		return b.health.Wait(ctx, "redis", safe, func() error { return b.openState(ctx, current()) })
	})
	opening.Go(func() error {
		return b.health.Wait(ctx, "nats", stream.Temporary, func() error { return b.openStream(ctx, name, current()) })
	})
	err = opening.Wait()
	if b.State != nil {
		b.Group.Defer("redis", func(context.Context) error { return b.State.Close() })
	}
	if b.Stream != nil {
		b.Group.Defer("nats", func(context.Context) error { b.Stream.Close(); return nil })
	}
	if err != nil {
		return nil, err
	}
	if err := b.openQBO(current()); err != nil {
		return nil, err
	}
	if err := settings.Use(func(t T) error { return b.take(t.Common()) }); err != nil {
		return nil, err
	}
	return build(b)
}

// Wait calls try until it does not fail for want of the broker, or ctx ends, for what build
// opens there. /readyz shows the error under what.
func (b *Backend) Wait(ctx context.Context, what string, try func() error) error {
	return b.health.Wait(ctx, what, stream.Temporary, try)
}

// safe reports whether an error is not about how Redis keeps its data: all others pass, and
// a refused password with the next reload.
func safe(err error) bool {
	_, unsafe := errors.AsType[*state.UnsafeError](err)
	return !unsafe
}

// openState is called until it has opened Redis, and again where Redis did not say how it
// keeps its data.
func (b *Backend) openState(ctx context.Context, cfg Config) (err error) {
	if b.State == nil {
		if b.State, err = state.Open(ctx, state.Options{Config: cfg.Redis, Logger: b.Log.Named("redis")}); err != nil {
			b.State = nil
			return err
		}
	}
	b.State.SetLogin(cfg.Redis)
	if cfg.NATS.Profile == stream.Dev {
		return nil
	}
	return b.State.RequireSafe(ctx)
}

func (b *Backend) openStream(ctx context.Context, name string, cfg Config) (err error) {
	if b.Stream == nil {
		if b.Stream, err = stream.Connect(ctx, stream.Options{Config: cfg.NATS, Name: name, Logger: b.Log.Named("nats"), Registerer: b.Registry}); err != nil {
			b.Stream = nil
			return err
		}
	}
	b.Stream.SetLogin(cfg.NATS)
	if err := b.Stream.EnsureTopology(ctx); err != nil {
		return err
	}
	return b.Stream.RequireAccess(ctx)
}

func (b *Backend) openQBO(cfg Config) (err error) {
	if b.OAuth, err = cfg.QBO.OAuth(); err != nil {
		return lifecycle.Usage(err)
	}
	b.Connections, err = connection.New(connection.Options{
		State: b.State, Config: cfg.Connection, Refresher: b.OAuth, Logger: b.Log.Named("connection"), Registerer: b.Registry,
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
	return errors.Join(b.Registry.Register(newUsage(b.Budget, b.Connections)), b.Registry.Register(newTokens(b.Connections, b.State)), b.Registry.Register(b.problems))
}

// take uses the secrets of cfg from now on.
func (b *Backend) take(cfg Config) error {
	if err := b.Connections.SetKeys(cfg.Connection); err != nil {
		return err
	}
	b.Stream.SetLogin(cfg.NATS)
	b.OAuth.SetApp(cfg.QBO.ClientID, cfg.QBO.ClientSecret)
	if !b.State.SetLogin(cfg.Redis) {
		return &reload.RestartError{Keys: []string{"redis.url"}}
	}
	return nil
}

// serve adds the service to the group.
func (b *Backend) serve(name string, run func(context.Context) error) {
	readiness := telemetry.NewReadiness(telemetry.ReadinessOptions{Check: b.ready})
	b.health.Started(readiness.Ready, b.Details)
	b.Group.Go("readiness", readiness.Run)
	b.Group.Go("deadlines", b.Connections.Watch)
	b.Group.Go("streams", b.Stream.WatchDrift)
	b.Group.Go("redis", b.watchRedis)
	b.Group.Go(name, run)
	b.Log.Info("service started", telemetry.Build(lifecycle.Version()), telemetry.Address(b.health.Addr()))
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
		b.Log.Info("shutdown requested during startup", telemetry.Error(err))
		return b.Group.Run(ended) // no failure
	}
	return errors.Join(startError(err), b.Group.Run(ended))
}

// startError gives a server that keeps less than it must its exit code. The error names
// the address already.
func startError(err error) error {
	_, broker := errors.AsType[*stream.MismatchError](err)
	_, redis := errors.AsType[*state.UnsafeError](err)
	_, access := errors.AsType[*stream.AccessError](err)
	if broker || redis || access {
		return lifecycle.Usage(err)
	}
	return fmt.Errorf("start: %w", err)
}

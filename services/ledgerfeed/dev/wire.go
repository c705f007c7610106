package dev

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
	"github.com/ledgerfeed/ledgerfeed/services/ingress"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/console"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
	"github.com/ledgerfeed/ledgerfeed/services/reconciler"
)

const (
	app          = "dev"
	stopTimeout  = 20 * time.Second
	startTimeout = 30 * time.Second
)

// feed is everything that runs. Parts are closed in the reverse of the order
// in which wire opened them.
type feed struct {
	o     Options
	term  *terminal
	log   *zap.Logger
	group lifecycle.Group

	data                  *dataDir
	realms                []string
	natsURL, redisAddress string
	state                 *state.Store
	stream                *stream.Conn
	sim                   *simulator
	connections           *connection.Store
	sinks                 []*openSink
	processor             *processor.Processor
	reconciler            *reconciler.Reconciler
	ingress               *ingress.Server
	load                  *load
	budget                *state.Budget
	console               *console.Server // nil without one

	registry      *prometheus.Registry
	metrics       *telemetry.Admin
	firstDelivery atomic.Pointer[time.Time]
	deadBefore    uint64
	summary       Summary
}

// wire opens every part, top to bottom, and leaves the running to f.group. On
// an error the caller closes what is open already: f is never nil.
func wire(ctx context.Context, o Options, term *terminal, log *zap.Logger) (f *feed, err error) {
	f = &feed{o: o, term: term, log: log, group: lifecycle.Group{Logger: log.Named("group"), StopTimeout: stopTimeout}, registry: prometheus.NewRegistry()}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()

	if f.data, err = openDataDir(o.DataDir); err != nil {
		return f, err
	}
	f.deferClose("data directory", f.data.Close)
	if f.realms, err = f.data.realmIDs(o.Realms); err != nil {
		return f, err
	}
	if len(o.Sinks) == 0 {
		f.o.Sinks = []Target{{Kind: kindJSONL, Where: f.data.file("changes.jsonl")}}
	}

	if err := f.openState(ctx); err != nil {
		return f, err
	}
	if err := f.openStream(ctx); err != nil {
		return f, err
	}
	if f.sim, err = startSimulator(ctx, f.o, f.data, log); err != nil {
		return f, err
	}
	f.group.Defer("quickbooks", f.sim.Shutdown)
	if err := f.connect(ctx); err != nil {
		return f, err
	}
	if err := f.openSinks(ctx); err != nil {
		return f, err
	}

	f.budget = f.state.Budget(0)
	api, err := qbo.New(qbo.Options{BaseURL: f.sim.url, Tokens: f.connections, Limiter: f.state.Limiter(limits()), Observe: f.budget.Observe})
	if err != nil {
		return f, fmt.Errorf("build the QuickBooks client: %w", err)
	}
	f.processor, err = processor.New(processor.Options{
		Config: f.processorConfig(), Stream: f.stream, State: f.state, QBO: api, Connections: f.connections,
		Sinks: f.tallies(), Logger: log.Named("processor"), Registerer: f.registry,
	})
	if err != nil {
		return f, fmt.Errorf("build the processor: %w", err)
	}
	f.reconciler, err = reconciler.New(reconciler.Options{
		Config: f.reconcilerConfig(), Stream: f.stream, State: f.state, QBO: api, Connections: f.connections,
		Logger: log.Named("reconciler"), Registerer: f.registry,
	})
	if err != nil {
		return f, fmt.Errorf("build the reconciler: %w", err)
	}
	f.ingress, err = ingress.New(ingress.Options{
		Config: f.ingressConfig(), Publisher: f.stream, Ready: f.stream.Ready, Logger: log.Named("ingress"), Registerer: f.registry,
		Beat: func(ctx context.Context) error { return f.stream.Beat(ctx, "ingress") },
	})
	if err != nil {
		return f, cannotListen("listen", o.Listen, err)
	}

	// QuickBooks is subscribed only now: what the books held before is older
	// than the connection and has to be loaded.
	f.sim.SetWebhookURL(f.webhookURL())
	f.load = newLoad(f.sim.Sim, f.realms, o.Rate, o.Seed)

	if err := f.openConsole(api); err != nil {
		return f, err
	}
	if f.metrics, err = telemetry.NewAdmin(telemetry.AdminOptions{Listen: o.MetricsListen, Gatherer: f.registry, Logger: log.Named("metrics")}); err != nil {
		return f, cannotListen("metrics-listen", o.MetricsListen, err)
	}

	f.group.Go("processor", f.processor.Run)
	f.group.Go("reconciler", f.reconciler.Run)
	f.group.Go("ingress", f.ingress.Run)
	f.group.Go("webhooks", f.sim.Run)
	f.group.Go("status", f.showStatus)
	f.group.Go("metrics", f.metrics.Run)
	if f.console != nil {
		f.group.Go("console", f.console.Run)
	}
	return f, nil
}

// connect opens the connection store and connects what is not connected yet.
func (f *feed) connect(ctx context.Context) error {
	key, err := f.data.key()
	if err != nil {
		return err
	}
	oauth, err := f.sim.oauth()
	if err != nil {
		return err
	}
	f.connections, err = connection.New(connection.Options{
		State: f.state, Config: connection.Config{Keys: []secret.String{key}}, Refresher: oauth, Logger: f.log.Named("connection"),
	})
	if err != nil {
		return fmt.Errorf("build the connection store: %w", err)
	}
	founded, err := f.sim.found(f.realms)
	if err != nil {
		return err
	}
	return f.sim.connect(ctx, f.connections, oauth, app, f.realms, founded)
}

// openSinks opens the sinks and makes a new one be loaded from the beginning.
func (f *feed) openSinks(ctx context.Context) error {
	known, err := f.state.Sinks(ctx)
	if err != nil {
		return fmt.Errorf("list the sinks: %w", err)
	}
	if f.sinks, err = openSinks(ctx, f.o, f.data, known, f.sawFirst); err != nil {
		return err
	}
	f.deferClose("sinks", func() error { return closeSinks(f.sinks) })
	names := make([]string, len(f.sinks))
	added := false
	for i, s := range f.sinks {
		names[i] = s.tally.Name()
		added = added || !slices.Contains(known, names[i])
	}
	if added {
		// Before the sink is known: a crash in between rewinds once more.
		for _, realm := range f.sim.Realms() {
			if err := f.state.RewindCursors(ctx, realm, nil, time.Time{}); err != nil {
				return fmt.Errorf("rewind the cursors of realm %s: %w", realm, err)
			}
		}
	}
	if _, err := f.state.SetSinks(ctx, names); err != nil {
		return fmt.Errorf("register the sinks: %w", err)
	}
	return nil
}

func (f *feed) tallies() []processor.Sink {
	all := make([]processor.Sink, len(f.sinks))
	for i, s := range f.sinks {
		all[i] = s.tally
	}
	return all
}

func (f *feed) sawFirst(at time.Time) {
	if f.firstDelivery.CompareAndSwap(nil, &at) {
		f.term.Printf("first change delivered %d ms after the start", at.Sub(f.o.Started).Milliseconds())
	}
}

func (f *feed) webhookURL() string { return "http://" + f.ingress.Addr() + "/webhooks/" + app }

func (f *feed) deferClose(name string, closing func() error) {
	f.group.Defer(name, func(context.Context) error { return closing() })
}

// close ends what wire had opened when it failed.
func (f *feed) close() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return f.group.Run(ctx)
}

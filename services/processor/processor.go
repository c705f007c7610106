package processor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/ledgerfeed/ledgerfeed/pkg/access"
	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/retry"
	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// Options are what the program passes to New. All but Logger, Registerer, Now
// and Tracer are required.
type Options struct {
	Config      ProcessorConfig
	Stream      *stream.Conn
	State       *state.Store
	QBO         *qbo.Client
	Connections *connection.Store
	// Sinks are the caller's to close, after Run has returned. Config.Sinks is
	// not looked at: see OpenSinks.
	Sinks      []Sink
	Logger     *zap.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time
	// Hold is for how long the broker holds a message back that is due after a delay; nil
	// is the delay. A test whose clock moves in steps shortens it: the broker has its own.
	Hold func(delay time.Duration) time.Duration
	// Tracer makes a span for each batch, in the traces of its envelopes; nil makes
	// none.
	Tracer trace.Tracer
}

// Processor delivers changes to the sinks. Make one with New and Run it once;
// the other methods are safe for concurrent use.
type Processor struct {
	config      ProcessorConfig
	stream      *stream.Conn
	state       *state.Store
	client      *qbo.Client
	connections *connection.Store
	outputs     []*output
	log         *zap.Logger
	now         func() time.Time
	hold        func(time.Duration) time.Duration
	tracer      trace.Tracer

	guard     *access.Guard
	affinity  *affinity
	eventOnly announcements
	apps      appNames

	// The constants, but in tests.
	lagDelay      time.Duration
	poisonAfter   int
	refusedAfter  int
	refusedFor    time.Duration
	waitAfter     int
	rememberEvery time.Duration
	behindEvery   time.Duration
	behindAfter   time.Duration
	roomDelay     time.Duration
	accessDelay   time.Duration // 0: as the guard says
	companies     time.Duration // how often sinks are told of companies

	fields    customFields
	unknown   *names       // entity names that no table holds
	toldFull  atomic.Int64 // when it was last said that the dead letters are full
	lanes     *lanes
	firsts    firsts
	refusals  *refusals
	count     *counters
	hand      *hand
	sightings *state.Sightings
}

// New makes a processor.
func New(o Options) (*Processor, error) {
	switch {
	case o.Stream == nil, o.State == nil, o.QBO == nil, o.Connections == nil:
		return nil, errors.New("processor: Stream, State, QBO and Connections are required")
	case len(o.Sinks) == 0:
		return nil, errors.New("processor: no sink is configured: set processor.sinks")
	case len(o.Sinks) > maxSinks:
		return nil, fmt.Errorf("processor: %d sinks are configured, the limit is %d", len(o.Sinks), maxSinks)
	}
	if err := o.Config.Validate(); err != nil {
		return nil, err
	}
	p := &Processor{
		config: o.Config, stream: o.Stream, state: o.State, client: o.QBO, connections: o.Connections,
		log: o.Logger, now: o.Now, hold: o.Hold, tracer: o.Tracer, lagDelay: lagDelay, poisonAfter: poisonAfter, refusedAfter: refusedAfter, refusedFor: refusedFor,
		waitAfter: waitAfter, rememberEvery: rememberInterval, companies: companiesEvery,
		behindEvery: behindInterval, behindAfter: behindAfter, roomDelay: roomDelay,
	}
	if p.log == nil {
		p.log = zap.NewNop()
	}
	if p.hold == nil {
		p.hold = func(delay time.Duration) time.Duration { return delay }
	}
	if p.now == nil {
		p.now = time.Now
	}
	filters, err := parseFilters(o.Config.SinkFilters)
	if err != nil {
		return nil, err
	}
	if p.eventOnly, err = parseEventOnly(o.Config.EventOnly); err != nil {
		return nil, err
	}
	if p.apps, err = parseAppNames(o.Config.AppAliases); err != nil {
		return nil, err
	}
	for _, s := range o.Sinks {
		if p.output(s.Name()) >= 0 || s.Name() == "" {
			return nil, fmt.Errorf("processor: duplicate sink name %q", s.Name())
		}
		p.outputs = append(p.outputs, newOutput(s, filters[s.Name()], o.Config.WriteTimeout, p.log))
		delete(filters, s.Name())
	}
	for name := range filters {
		return nil, fmt.Errorf("processor: processor.sink_filters: no sink is named %q", name)
	}
	p.guard = access.New(access.Options{State: o.State, Connections: o.Connections, QBO: o.QBO, Logger: p.log, Now: p.now})
	p.affinity = newAffinity(o.State, p.log)
	p.hand = newHand(o.Config, p.log)
	p.count = newCounters(o.Registerer, p.hand, p.outputs)
	p.lanes = newLanes(o.Config, p.now, p.deliver)
	p.sightings = o.State.Sightings(p.late)
	if p.firsts, err = newFirsts(); err != nil {
		return nil, fmt.Errorf("processor: %w", err)
	}
	if p.refusals, err = newRefusals(); err != nil {
		return nil, fmt.Errorf("processor: %w", err)
	}
	if p.unknown, err = newNames(); err != nil {
		return nil, fmt.Errorf("processor: %w", err)
	}
	return p, nil
}

// output is the place of the sink of that name; -1 if there is none.
func (p *Processor) output(name string) int {
	return slices.IndexFunc(p.outputs, func(o *output) bool { return o.Name() == name })
}

// step is one of those that a batch is taken through.
type step struct {
	name string
	run  func(context.Context, *batch) error
}

// deliver takes a batch through the steps. An error of a step is the outcome of
// every item it was given.
func (p *Processor) deliver(ctx context.Context, b *batch) {
	defer b.finish()
	defer p.see(b)
	ctx, end := p.span(ctx, b)
	defer end()
	steps := []step{{"admit", p.admit}, {"dedupe", p.dedupe}, {"sift", p.sift}, {"spare", p.spare}, {"hydrate", p.hydrateUnlessRefused}, {"follow", p.follow}, {"write", p.write}, {"mark", p.mark}}
	if sabotage.On(sabotage.MarkBeforeWrite) {
		steps[6], steps[7] = steps[7], steps[6]
	}
	sabotage.At(sabotage.Coalesced)
	p.count.waited(b, p.now())
	for _, s := range steps {
		if len(b.items) == 0 {
			return
		}
		began := time.Now()
		err := p.traced(ctx, b, s)
		sabotage.At(sabotage.Point(s.name))
		p.count.step(s.name, time.Since(began))
		if err != nil {
			fail(b.items, err)
			return
		}
	}
}

// Run consumes until ctx ends or the broker refuses a consumer for good, then drains: it
// takes nothing more, finishes what is in hand within Config.DrainTimeout and
// gives the rest back to the broker.
func (p *Processor) Run(ctx context.Context) error {
	defer func() {
		// It runs out by itself; the others need not wait for that.
		_ = p.state.LeaveConfig(context.WithoutCancel(ctx), durableName, p.affinity.members.ID(), p.sinkConfig())
	}()
	if !p.persist(ctx, "register sinks", p.enlist) {
		return nil
	}
	// Of a version that had one consumer for all partitions: the broker takes no
	// second one for a partition.
	if !p.persist(ctx, "delete old consumer", func(ctx context.Context) error {
		return p.stream.DeleteConsumer(ctx, stream.Events, durableName)
	}) {
		return nil
	}
	// What is in hand outlives ctx, up to the end of the drain.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var keeping sync.WaitGroup
	keeping.Go(func() { p.hand.keep(work) })
	keeping.Go(func() {
		p.sightings.Run(work, func(err error) { p.log.Debug("webhook statistics not recorded", telemetry.Error(err)) })
	})
	consumers, consuming := errgroup.WithContext(ctx)
	consumers.Go(func() error { p.affinity.run(consuming); return nil })
	consumers.Go(func() error { return p.watch(consuming) })
	consumers.Go(func() error { return p.keepRemembering(consuming) })
	p.lookPaused(ctx)
	consumers.Go(func() error { return p.keepPaused(consuming) })
	for s, out := range p.outputs {
		consumers.Go(func() error { return p.keepGaps(consuming, out) })
		consumers.Go(func() error { return p.keepCompanies(consuming, out) })
		consumers.Go(func() error { return p.keepBehind(consuming, s) })
		consumers.Go(func() error { return p.keepPosition(consuming, out) })
	}
	for _, q := range p.queues() {
		in := intake{p: p, queue: q}
		consumers.Go(func() error {
			return p.consume(consuming, q, func(taking context.Context, m *stream.Message) { in.take(taking, work, m) })
		})
	}
	p.log.Info("processor started", telemetry.Count(len(p.outputs)))
	err := consumers.Wait()
	p.drain(stop)
	stop()
	keeping.Wait()
	return err
}

// persist does a step of the start until it succeeds: Redis or the broker may go away at any
// moment of it. It reports false when ctx ends first.
func (p *Processor) persist(ctx context.Context, what string, step func(context.Context) error) bool {
	failures := 0
	again := retry.Policy{First: time.Second, Most: 5 * time.Second, Jitter: true, Notify: func(err error, pause time.Duration) {
		failures++
		p.log.Warn("startup step failed, will retry", telemetry.Part(what), telemetry.Attempt(failures), telemetry.After(pause), telemetry.Error(err))
	}}
	return again.Do(ctx, func() error { return step(ctx) }) == nil
}

// consume takes the messages of a queue; those of a group of partitions with the
// priority that this replica has for it, anew whenever that changes.
func (p *Processor) consume(ctx context.Context, q queue, take func(context.Context, *stream.Message)) error {
	for {
		o := q.options(p.config)
		turn, stop := context.WithCancel(ctx)
		if o.Prioritized {
			var changed <-chan struct{}
			o.Priority, changed = p.affinity.priority(q.group)
			go func() {
				defer stop()
				select {
				case <-changed:
				case <-turn.Done():
				}
			}()
		}
		err := p.stream.Consume(turn, o, func(m *stream.Message) { take(turn, m) })
		stop()
		if err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// drain waits for what is in hand. After the bound reads and writes are cut off:
// what they were for fails at once and is given back.
func (p *Processor) drain(stop func()) {
	started, left := time.Now(), p.hand.count()
	finished := make(chan struct{})
	go func() {
		p.hand.empty()
		p.lanes.working.Wait()
		close(finished)
	}()
	bound := time.NewTimer(p.config.DrainTimeout)
	defer bound.Stop()
	select {
	case <-finished:
	case <-bound.C:
		stop()
		<-finished
	}
	p.log.Info("processor stopped", telemetry.Count(left), telemetry.Took(time.Since(started)))
}

// queue is one queue that is consumed.
type queue struct {
	queue   stream.Queue
	durable string
	group   int // of partitions; -1 for the others
	sinks   sinkSet
	retry   bool // of one sink
	waiting bool // of what cannot be read
}

// options are how the queue is consumed, but for the priority.
func (q queue) options(c ProcessorConfig) stream.ConsumeOptions {
	return stream.ConsumeOptions{Queue: q.queue, Durable: q.durable, AckWait: c.AckWait, MaxAckPending: c.MaxAckPending, Prioritized: q.group >= 0}
}

// Consumers are what the processors of a configuration consume for these sinks.
func Consumers(c ProcessorConfig, sinks []string) (all []stream.ConsumeOptions) {
	for _, q := range queuesOf(sinks) {
		all = append(all, q.options(c))
	}
	return all
}

// durableName begins the names of the consumers on the broker.
const durableName = "processor"

func (p *Processor) queues() []queue {
	names := make([]string, len(p.outputs))
	for s, out := range p.outputs {
		names[s] = out.Name()
	}
	return queuesOf(names)
}

func queuesOf(sinks []string) (queues []queue) {
	for g := range stream.Groups {
		queues = append(queues, queue{
			queue: stream.Group(g), durable: stream.GroupDurable(durableName, g), group: g,
			sinks: allSinks(len(sinks)),
		})
	}
	queues = append(queues, queue{
		queue: stream.Waiting, durable: durableName + "_waiting", group: -1,
		sinks: allSinks(len(sinks)), waiting: true,
	})
	for s, name := range sinks {
		queues = append(queues, queue{
			queue: stream.Retry(name), durable: stream.RetryDurable(durableName, name), group: -1,
			sinks: sinkSet(0).with(s), retry: true,
		})
	}
	return queues
}

// Idle reports whether nothing waits on the queues and nothing is in hand.
func (p *Processor) Idle(ctx context.Context) (bool, error) {
	// The events first: what leaves them may be on a retry queue, never the other
	// way.
	for _, q := range append([]queue{{queue: stream.Events, durable: durableName}}, p.queues()[stream.Groups:]...) {
		lag, err := p.stream.Lag(ctx, q.queue, q.durable)
		if err != nil {
			return false, err
		}
		// Not Pending: the consumer hears of a message after its publisher does.
		if lag.Stored > 0 {
			return false, nil
		}
	}
	return p.hand.count() == 0, nil
}

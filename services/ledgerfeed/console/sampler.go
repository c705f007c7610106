package console

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	dto "github.com/prometheus/client_model/go"
	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/diagnosis"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/realmstatus"
)

// What a sample holds.
const (
	valueRate    = "rate"    // changes a second
	valueOldest  = "oldest"  // seconds
	valueBacklog = "backlog" // messages
	valueDead    = "dead"    // letters
	valueAck     = "ack"     // p99, seconds
	valueSink    = "sink"    // p95, seconds
)

const (
	// durable is the name of the processors' consumers.
	durable = "processor"
	// summaryEvery is how often all realms are looked at, and the findings.
	summaryEvery = time.Minute
	sampleMax    = 8 * time.Second
)

// sampler measures in the background what pages must not wait for.
type sampler struct {
	s       *Server
	summary atomic.Pointer[realmstatus.Summary]
	found   atomic.Pointer[[]diagnosis.Issue]
	now     atomic.Pointer[state.Sample]
	metrics atomic.Pointer[[]*dto.MetricFamily]

	// Of the sample before, for the one goroutine.
	changes   int64
	changesAt time.Time
	ack, sink histogram
}

func newSampler(s *Server) *sampler { return &sampler{s: s} }

// run samples until ctx ends.
func (p *sampler) run(ctx context.Context) {
	var counting sync.WaitGroup
	defer counting.Wait()
	counting.Go(func() { p.count(ctx) })
	hour, day := state.HourSeries(), state.DaySeries()
	tick := time.NewTicker(hour.Step)
	defer tick.Stop()
	for {
		x, err := p.sample(ctx)
		if err == nil {
			p.now.Store(&x)
			err = errors.Join(p.s.o.State.AddSample(ctx, hour, x), p.s.o.State.AddSample(ctx, day, x))
		}
		if err != nil && ctx.Err() == nil {
			p.s.log.Debug("sample not recorded", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// count looks at all realms, and at the findings, from time to time.
func (p *sampler) count(ctx context.Context) {
	tick := time.NewTicker(summaryEvery)
	defer tick.Stop()
	for {
		sum, err := p.s.realms.Summary(ctx, 0)
		if err == nil {
			p.summary.Store(&sum)
		}
		found, lookErr := diagnosis.Look(ctx, p.s.o.State, p.s.o.Now())
		if lookErr == nil {
			p.found.Store(&found)
		}
		if err := errors.Join(err, lookErr); err != nil && ctx.Err() == nil {
			p.s.log.Debug("realms not counted", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// latest is the last sample, unless it is old.
func (p *sampler) latest(now time.Time) *state.Sample {
	x := p.now.Load()
	if x == nil || now.Sub(x.At) > time.Minute {
		return nil
	}
	return x
}

// findings are those of a minute ago at most; none before the first look.
func (p *sampler) findings() []diagnosis.Issue {
	if f := p.found.Load(); f != nil {
		return *f
	}
	return nil
}

func (p *sampler) sample(ctx context.Context) (state.Sample, error) {
	ctx, cancel := context.WithTimeout(ctx, sampleMax)
	defer cancel()
	now := p.s.o.Now()
	x := state.Sample{At: now, Values: map[string]float64{}}
	lag, err := p.s.o.Stream.Lag(ctx, stream.Events, durable)
	if err != nil {
		return x, err
	}
	x.Values[valueBacklog] = float64(lag.Pending + lag.AckPending)
	x.Values[valueOldest] = 0
	if !lag.Oldest.IsZero() {
		x.Values[valueOldest] = max(0, now.Sub(lag.Oldest).Seconds())
	}
	dead, err := p.s.o.Stream.DeadCounts(ctx)
	if err != nil {
		return x, err
	}
	n := uint64(0)
	for _, of := range dead {
		n += of
	}
	x.Values[valueDead] = float64(n)
	if err := p.rate(ctx, now, &x); err != nil {
		return x, err
	}
	p.scrape(ctx, &x)
	return x, nil
}

// rate is how many changes became known since the sample before. The counts are of
// days: right after midnight UTC only those of the new day are seen.
func (p *sampler) rate(ctx context.Context, now time.Time, x *state.Sample) error {
	days, err := p.s.o.State.DailyCoverage(ctx, 1)
	if err != nil {
		return err
	}
	total := days[0].Total()
	changes := total.Told + total.Gaps
	since := changes - p.changes
	if since < 0 {
		since = changes
	}
	if took := now.Sub(p.changesAt).Seconds(); !p.changesAt.IsZero() && took > 0 {
		x.Values[valueRate] = float64(since) / took
	}
	p.changes, p.changesAt = changes, now
	return nil
}

// scrape adds the latencies of what came since the sample before. Services that do not
// answer leave them out.
func (p *sampler) scrape(ctx context.Context, x *state.Sample) {
	families, err := p.s.o.Gather(ctx)
	if err != nil && ctx.Err() == nil {
		p.s.log.Debug("metrics not scraped", zap.Error(err))
	}
	p.metrics.Store(&families)
	ack, sink := histogramOf(families, "ledgerfeed_ingress_ack_seconds"), histogramOf(families, "ledgerfeed_processor_delivery_seconds")
	if v, ok := ack.since(p.ack).quantile(0.99); ok {
		x.Values[valueAck] = v
	}
	if v, ok := sink.since(p.sink).quantile(0.95); ok {
		x.Values[valueSink] = v
	}
	p.ack, p.sink = ack, sink
}

package processor

import (
	"context"
	"fmt"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// watchInterval is how often the broker is asked how far behind we are and how full its
// streams are, and Redis whether it still knows the sinks.
const watchInterval = 10 * time.Second

// watch keeps the gauges of what waits up to date, until ctx ends.
func (p *Processor) watch(ctx context.Context) error {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		if err := p.look(ctx); err != nil && ctx.Err() == nil {
			p.log.Debug("backlog unknown", telemetry.Error(err))
		}
		if _, err := p.stream.Usage(ctx); err != nil && ctx.Err() == nil {
			p.log.Debug("stream usage unknown", telemetry.Error(err))
		}
		if err := p.enlistAgain(ctx); err != nil && ctx.Err() == nil {
			p.log.Debug("sink registration not checked", telemetry.Error(err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (p *Processor) look(ctx context.Context) error {
	groups, oldest, err := p.stream.GroupLags(ctx, durableName)
	if err != nil {
		return err
	}
	age := time.Duration(0)
	if !oldest.IsZero() {
		age = max(0, time.Since(oldest))
	}
	p.count.oldest.Set(age.Seconds())
	for g, lag := range groups {
		p.count.backlog.WithLabelValues(fmt.Sprintf("%02d", g)).Set(float64(lag.Pending + lag.AckPending))
	}
	for _, q := range p.queues()[stream.Groups:] {
		lag, err := p.stream.Lag(ctx, q.queue, q.durable)
		if err != nil {
			return err
		}
		if q.waiting {
			p.count.waiting.Set(float64(lag.Pending + lag.AckPending))
			continue
		}
		for s := range q.sinks.each() {
			p.count.parcels.WithLabelValues(p.outputs[s].Name()).Set(float64(lag.Pending + lag.AckPending))
		}
	}
	return nil
}

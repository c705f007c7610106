package processor

import (
	"context"
	"slices"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// pauseInterval is how long a sink may still be written to after a person paused it.
const pauseInterval = 2 * time.Second

// keepPaused follows which sinks are paused, and tells which are down, until ctx ends. A paused sink is as one
// that is down: what is for it goes to its retry queue and costs no read.
func (p *Processor) keepPaused(ctx context.Context) error {
	tick := time.NewTicker(pauseInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			p.lookPaused(ctx)
			p.tellHealth(ctx)
			p.tellSanitized(ctx)
		}
	}
}

// lookPaused leaves all as it is where Redis does not answer.
func (p *Processor) lookPaused(ctx context.Context) {
	names, err := p.state.PausedSinks(ctx)
	if err != nil {
		if ctx.Err() == nil {
			p.log.Debug("paused sinks unknown", telemetry.Error(err))
		}
		return
	}
	for _, out := range p.outputs {
		paused := slices.Contains(names, out.Name())
		if out.paused.Swap(paused) != paused {
			p.log.Info(map[bool]string{true: "sink paused", false: "sink resumed"}[paused], telemetry.Sink(out.Name()))
		}
	}
}

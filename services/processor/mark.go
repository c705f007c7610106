package processor

import (
	"context"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

// mark notes what each sink has now. Mark after write: a crash in between costs
// a duplicate, not a loss.
func (p *Processor) mark(ctx context.Context, b *batch) error {
	// What was written is noted even if the drain is over; state bounds the calls.
	ctx = context.WithoutCancel(ctx)
	for s, out := range p.outputs {
		var have []*item
		var advances []state.Advance
		for _, it := range b.items {
			if !it.lacking.has(s) || it.failed[s] != nil {
				continue
			}
			have = append(have, it)
			advances = append(advances, state.Advance{
				Ref: it.ref, Version: it.verdict.change.GetVersion(), Covered: it.verdict.covered,
			})
		}
		if len(have) == 0 {
			continue
		}
		if err := p.state.Advance(ctx, b.realm, out.Name(), advances); err != nil {
			fail(have, paused(err))
		}
	}
	p.delivered(b)
	p.see(ctx, b)
	return nil
}

// delivered counts the items that reached a sink.
func (p *Processor) delivered(b *batch) {
	for _, it := range b.items {
		for s := range it.lacking.each() {
			if it.failed[s] == nil && it.lacks(s) {
				p.count.delivered(it.verdict.change, p.now())
				break
			}
		}
	}
}

// see notes how recent the webhooks of the realm are. It is shown to people and
// decides nothing, so an error costs nothing.
func (p *Processor) see(ctx context.Context, b *batch) {
	var seen []state.Sighting
	for _, it := range b.items {
		for _, u := range it.open() {
			if !u.webhook() || u.err != nil || u.occurred.IsZero() || u.mergedInto != "" {
				continue
			}
			name := u.event().GetOperationName()
			if name == "" {
				name = sink.Operation(u.operation)
			}
			seen = append(seen, state.Sighting{Entity: u.entity, Operation: name, At: u.occurred})
		}
	}
	if len(seen) == 0 {
		return
	}
	if err := p.state.SeenAll(ctx, b.realm, seen); err != nil {
		p.log.Debug("webhooks not noted", telemetry.Realm(b.realm), telemetry.Error(err))
	}
}

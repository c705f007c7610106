package processor

import (
	"context"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// mark notes what each sink has now. Mark after write: a crash in between costs
// a duplicate, not a loss.
func (p *Processor) mark(ctx context.Context, b *batch) error {
	// What was written is noted even if the drain is over; state bounds the calls.
	ctx = context.WithoutCancel(ctx)
	for s, out := range p.outputs {
		have := make([]*item, 0, len(b.items))
		advances := make([]state.Advance, 0, len(b.items))
		for _, it := range b.items {
			if !it.lacking.has(s) || it.failed[s] != nil {
				continue
			}
			have = append(have, it)
			if u := it.last((*unit).webhook); u != nil && sabotage.On(sabotage.CursorByEvent) {
				_ = p.state.AdvanceCursors(ctx, b.realm, map[string]time.Time{it.ref.Entity: u.occurred})
			}
			advances = append(advances, state.Advance{
				Ref: it.ref, Version: it.verdict.change.GetVersion(), Covered: it.verdict.covered,
				Hash: it.verdict.change.GetContentHash(), Restore: it.restores(s),
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
	return nil
}

// delivered counts the items that reached a sink.
func (p *Processor) delivered(b *batch) {
	for _, it := range b.items {
		for s := range it.lacking.each() {
			if it.failed[s] == nil && it.lacks(s) {
				it.reached = p.now()
				p.count.delivered(it.verdict.change, it.reached)
				break
			}
		}
	}
}

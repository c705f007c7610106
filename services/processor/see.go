package processor

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

// see takes note of the webhooks of the batch: of which kinds they are, whether they
// told of the change first, and how late. It is shown to people and decides nothing.
func (p *Processor) see(b *batch) {
	seen := make([]state.Webhook, 0, len(b.all))
	for _, it := range b.all {
		for _, u := range it.units {
			// One from a retry queue was seen before it went there.
			if !u.webhook() || u.from.retry || u.err != nil || u.occurred.IsZero() || u.mergedInto != "" {
				continue
			}
			w := state.Webhook{
				Kind: state.Kind{Entity: u.entity, Operation: operationOf(u)}, ID: u.id,
				Event: u.occurred, Received: u.received(), First: u.sinks != 0,
			}
			if w.First {
				w.Delivered = it.reached
			}
			seen = append(seen, w)
		}
	}
	if len(seen) > 0 {
		p.sightings.Note(b.realm, seen...)
	}
}

// operationOf is the operation in lower case, Intuit's word for one that is unknown
// to us.
func operationOf(u *unit) string {
	if name := u.event().GetOperationName(); name != "" {
		return strings.ToLower(name)
	}
	return sink.Operation(u.operation)
}

// gapsAtOnce is how many gaps one message carries.
const gapsAtOnce = 500

// late has it exported that the webhooks of gaps came after all.
func (p *Processor) late(ctx context.Context, gaps []state.Gap) {
	byRealm := map[string][]state.Gap{}
	for _, g := range gaps {
		byRealm[g.Realm] = append(byRealm[g.Realm], g)
	}
	for realm, gaps := range byRealm {
		for part := range slices.Chunk(gaps, gapsAtOnce) {
			if err := p.exportLate(ctx, realm, part); err != nil {
				p.log.Warn("late webhooks not exported", telemetry.Realm(realm), telemetry.Count(len(part)), telemetry.Error(err))
			}
		}
	}
}

func (p *Processor) exportLate(ctx context.Context, realm string, gaps []state.Gap) error {
	data, err := json.Marshal(gaps)
	if err != nil {
		return fmt.Errorf("encode gaps: %w", err)
	}
	first := gaps[0]
	id := fmt.Sprintf("late/%s/%s/%s/%d", realm, first.Entity, first.ID, first.Version)
	return p.stream.PublishGaps(ctx, stream.GapMessage{RealmID: realm, ID: id, Data: data})
}

package processor

import (
	"context"
	"fmt"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// recheckDelay is longer than an answer of connection.Store.Known is kept.
const recheckDelay = 3 * time.Second

// withoutRecord decides about the events of a realm that has no record of a connection.
// Nobody connected it, or Redis lost the record. The events of a lost one are acked like
// those of a parked realm: its cursors have not passed them, and the scan after the
// reconnect finds them. Where the cursors are lost too, a first load follows, and the
// deletions that it does not show become dead letters.
func (p *Processor) withoutRecord(ctx context.Context, b *batch, cause error) error {
	lost, err := p.connections.NoteLost(ctx, b.realm)
	if err != nil {
		return paused(err)
	}
	unknown := stream.Permanent(stream.ReasonRealmNotConnected, cause)
	if !lost {
		return unknown
	}
	if err := p.noteMerges(ctx, b); err != nil {
		return err
	}
	cursors, err := p.state.Cursors(ctx, b.realm)
	if err != nil {
		return paused(err)
	}
	for _, it := range b.items {
		for _, u := range it.open() {
			u.err = fmt.Errorf("%w: %w", errParked, connection.ErrLost)
			if u.replay() || len(cursors) == 0 && u.unshown() {
				u.err = unknown
			}
		}
	}
	b.items = nil
	return nil
}

// unshown reports whether u is a deletion that neither ChangeDataCapture nor a first load
// shows.
func (u *unit) unshown() bool {
	info, known := entity.Lookup(u.entity)
	return known && !info.CDC && u.operation == ledgerfeedv1.Operation_OPERATION_DELETE
}

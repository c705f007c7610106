package audit

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/retry"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// repair publishes what differs and waits until the sink has it. What the feed has not
// delivered goes to all sinks, as what a scan finds; what it has delivered already, so
// that the sink lost it, goes to that sink alone, as a replay; and what the sink holds a
// tombstone of, although QuickBooks has it, as a restored record.
func (c *comparison) repair(ctx context.Context, found []difference) error {
	refs := make([]state.Ref, len(found))
	for i, d := range found {
		refs[i] = state.Ref{Entity: c.entity, ID: d.id}
	}
	marks, err := c.a.o.State.Marks(ctx, c.realm, c.a.o.Sink, refs)
	if err != nil {
		return err
	}
	var undelivered, lost, buried []*ledgerfeedv1.Event
	for i, d := range found {
		switch m := marks[i]; {
		case d.kind != extra && (qbo.IsTombstone(m.Version) || d.held.Deleted):
			buried = append(buried, c.event(d))
		case d.kind == altered && m.Version == d.version && m.Hash != d.hash,
			d.kind != altered && qbo.Newer(m.Version, d.version) && !qbo.IsTombstone(m.Version):
			undelivered = append(undelivered, c.event(d))
		default:
			lost = append(lost, c.event(d))
		}
	}
	if err := c.publish(ctx, ledgerfeedv1.Source_SOURCE_RESTORED, c.a.o.Sink, buried); err != nil {
		return err
	}
	if err := c.publish(ctx, ledgerfeedv1.Source_SOURCE_QUERY, "", undelivered); err != nil {
		return err
	}
	if err := c.publish(ctx, ledgerfeedv1.Source_SOURCE_REPLAY, c.a.o.Sink, lost); err != nil {
		return err
	}
	left := found
	for end := time.Now().Add(c.a.o.RepairWait); len(left) > 0 && time.Now().Before(end); {
		if err := lifecycle.Sleep(ctx, pollEvery); err != nil {
			return err
		}
		if left, err = c.still(ctx, left); err != nil {
			return err
		}
	}
	c.verdict.Repaired = len(found) - len(left)
	if len(left) > 0 {
		c.verdict.Detail += fmt.Sprintf("; not at the sink yet: %s", named(left))
	}
	return nil
}

func (c *comparison) event(d difference) *ledgerfeedv1.Event {
	e := &ledgerfeedv1.Event{
		Id: fmt.Sprintf("%s/%s/%s", c.a.run, c.entity, d.id), Entity: c.entity, EntityId: d.id,
		Operation: ledgerfeedv1.Operation_OPERATION_UPDATE, Version: d.version, ContentHash: d.hash,
	}
	if d.kind == extra {
		e.Operation = ledgerfeedv1.Operation_OPERATION_DELETE
	}
	if at := qbo.VersionTime(d.version); at.Unix() > 0 {
		e.OccurredAt = timestamppb.New(at)
	}
	return e
}

// publish puts events on the stream and waits for the broker's acknowledgement.
func (c *comparison) publish(ctx context.Context, source ledgerfeedv1.Source, sink string, events []*ledgerfeedv1.Event) error {
	if len(events) == 0 {
		return nil
	}
	seed := fmt.Sprintf("%s/%s/%s", c.a.run, c.entity, source)
	envs := envelope.New(source, c.realm, seed, events, envelope.Meta{ReceivedAt: c.a.o.Now()})
	for _, e := range envs {
		e.Sink = sink
	}
	// Repeating is safe: an envelope has the same id each time.
	again := retry.Calls(tries, retry.If(stream.ErrNotDurable))
	if err := again.Do(ctx, func() error { return c.a.o.Stream.PublishLater(ctx, envs...) }); err != nil {
		return fmt.Errorf("publish %d repairs: %w", len(events), err)
	}
	return nil
}

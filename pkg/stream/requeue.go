package stream

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// Requeue puts the events of d on the event stream, see DeadLetter.Revive, then
// deletes it, and returns how many events that were. If some of its bytes still
// cannot be read (ErrUnreadable) it stays, and so it does after any other error.
func (c *Conn) Requeue(ctx context.Context, d DeadLetter) (events int, err error) {
	envs, unreadable := d.Revive()
	for _, e := range envs {
		events += len(e.GetEvents())
	}
	if err := c.republish(ctx, d, envs); err != nil {
		return 0, err
	}
	if unreadable != nil {
		return events, fmt.Errorf("dead letter %d stays: %w", d.Seq, unreadable)
	}
	// After the PubAck: a crash in between costs a delivery more, not a change (I2).
	return events, c.DeleteDead(ctx, d.Seq)
}

// republish stores the revived envelopes with what happened to their events so
// far, so that a letter they may become again tells all of it.
func (c *Conn) republish(ctx context.Context, d DeadLetter, envs []*ledgerfeedv1.Envelope) error {
	past := History{Attempts: d.Attempts, FirstSeen: d.FirstSeen, FirstError: d.FirstError}
	if past.FirstError == "" {
		past.FirstError = d.Detail
	}
	msgs := make([]*nats.Msg, len(envs))
	for i, e := range envs {
		data, err := envelope.Encode(e)
		if err != nil {
			return fmt.Errorf("requeue dead letter %d: %w", d.Seq, err)
		}
		msgs[i] = past.put(traced(message(EventStream, eventSubject(e.GetRealmId()), e.GetId(), data), e))
	}
	if err := c.publish(ctx, msgs, c.group.publish); err != nil {
		return fmt.Errorf("requeue dead letter %d: %w", d.Seq, err)
	}
	return nil
}

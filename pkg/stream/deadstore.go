package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
)

// DeadMaxAge is how long dead letters are kept.
func (c *Conn) DeadMaxAge() time.Duration { return c.cfg.DeadMaxAge }

// StoreDead is PublishDead that also returns the number of the letter, 0 if it waits
// for room. ErrFull says that the stream, or the share of it that the reason or the
// company of d may have, is used up. A letter that no scan makes up for waits on the
// queue Waiting then, and is durable all the same: see [Conn.MoveDead].
func (c *Conn) StoreDead(ctx context.Context, d DeadLetter) (letter uint64, err error) {
	m, err := encodeDead(d)
	if err != nil {
		return 0, fmt.Errorf("publish dead letter: %w", err)
	}
	letter, err = c.storeDead(ctx, m)
	if errors.Is(err, ErrFull) && d.Reason.waits() {
		if waiting := c.PublishDeadWaiting(ctx, d); waiting != nil {
			return 0, errors.Join(err, waiting)
		}
		return 0, nil
	}
	return letter, err
}

// waits reports whether nothing else has what a letter of that reason says.
func (r Reason) waits() bool {
	return r == ReasonUnreadable || r == ReasonInvalidEnvelope || r == ReasonUnknownSink
}

func (c *Conn) storeDead(ctx context.Context, m *nats.Msg) (letter uint64, err error) {
	if err := c.deadQuota.room(ctx, c, m); err != nil {
		return 0, err
	}
	err = c.publish(ctx, []*nats.Msg{m}, func(ctx context.Context, msgs []*nats.Msg) error {
		parcels, err := c.outbox.send(ctx, msgs)
		switch {
		case err != nil:
			return notDurable(msgs[0].Subject, err)
		case parcels[0].err != nil:
			return notDurable(id(msgs[0]), parcels[0].err)
		}
		letter = parcels[0].seq
		return nil
	})
	if err == nil {
		c.deadQuota.put(m)
	}
	return letter, err
}

// PublishDeadWaiting stores a letter for which there is no room on the queue Waiting.
func (c *Conn) PublishDeadWaiting(ctx context.Context, d DeadLetter) error {
	m, err := encodeDead(d)
	if err != nil {
		return fmt.Errorf("publish waiting dead letter: %w", err)
	}
	waiting := message(RetryStream, retrySubject(waitingSink, d.RealmID), "dead/"+id(m), m.Data)
	for key, values := range m.Header {
		if waiting.Header.Get(key) == "" {
			waiting.Header[key] = values
		}
	}
	return c.publishRetry(ctx, waiting)
}

// publishRetry is publishOne for the stream of what is tried again.
func (c *Conn) publishRetry(ctx context.Context, m *nats.Msg) error {
	if err := c.retryQuota.room(ctx, c, m); err != nil {
		return err
	}
	err := c.publishOne(ctx, m)
	if err == nil {
		c.retryQuota.put(m)
	}
	return err
}

// Letter returns the dead letter that the message is, if it is one that waits for room.
func (m *Message) Letter() (DeadLetter, bool) {
	h := m.msg.Headers()
	if h.Get(headerReason) == "" {
		return DeadLetter{}, false
	}
	return decodeDead(0, m.Published(), h, m.Data()), true
}

// MoveDead stores a letter that waited, then removes m. After an error, which is ErrFull
// as long as there is no room, m is not settled.
func (c *Conn) MoveDead(ctx context.Context, m *Message, d DeadLetter) error {
	msg, err := encodeDead(d)
	if err != nil {
		return fmt.Errorf("publish dead letter: %w", err)
	}
	if _, err := c.storeDead(ctx, msg); err != nil {
		return err
	}
	return m.Ack(ctx)
}

// HasDead reports whether the letter of that number is there and says that the sink did
// not get the record. It is not once it was requeued or purged, or has expired.
func (c *Conn) HasDead(ctx context.Context, letter uint64, realm, sink, name, id string) (bool, error) {
	d, err := c.DeadLetter(ctx, letter)
	if errors.Is(err, ErrNoDeadLetter) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	// Numbers begin again where the stream was lost: it may be another letter.
	if d.RealmID != realm || d.Sink != "" && d.Sink != sink {
		return false, nil
	}
	for _, e := range d.Envelope.GetEvents() {
		if entity.Canonical(e.GetEntity()) == name && (e.GetEntityId() == id || e.GetMergedId() == id) {
			return true, nil
		}
	}
	return false, nil
}

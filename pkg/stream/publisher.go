package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// The broker's words for "no room", see nats-server server/errors.json.
const (
	codeStoreFailed     jetstream.ErrorCode = 10077 // maximum bytes exceeded; also: no space left on device
	codeStorageExceeded jetstream.ErrorCode = 10047 // the account's or server's storage is used up
)

// Publish puts envs on the event stream, all at once, and waits for the broker's
// acknowledgement of each (I1). One it has stored already counts as
// acknowledged. Any other outcome, the end of ctx included, is ErrNotDurable.
// An envelope that cannot be encoded is an *envelope.InvalidError before
// anything is sent.
func (c *Conn) Publish(ctx context.Context, envs ...*ledgerfeedv1.Envelope) error {
	msgs := make([]*nats.Msg, 0, len(envs))
	for _, e := range envs {
		data, err := envelope.Encode(e)
		if err != nil {
			return fmt.Errorf("publish envelope %q: %w", e.GetId(), err)
		}
		msgs = append(msgs, traced(message(EventStream, eventSubject(e.GetRealmId()), e.GetId(), data), e))
	}
	return c.publish(ctx, msgs, c.group.publish)
}

// PublishLater is Publish for what can be published at another time too: it leaves the
// last quarter of the stream to webhooks, whose sender gives up after a while.
func (c *Conn) PublishLater(ctx context.Context, envs ...*ledgerfeedv1.Envelope) error {
	if err := c.spare(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrNotDurable, err)
	}
	return c.Publish(ctx, envs...)
}

func (c *Conn) spare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	s, err := c.js.Stream(ctx, EventStream)
	if err != nil {
		return fmt.Errorf("look up stream %s: %w", EventStream, err)
	}
	info := s.CachedInfo()
	if most := info.Config.MaxBytes; most > 0 && info.State.Bytes > uint64(most)/4*3 {
		return fmt.Errorf("stream %s holds %d of %d bytes; the rest is reserved for webhooks", EventStream, info.State.Bytes, most)
	}
	return nil
}

// PublishRetry puts env on the queue of one sink; Envelope.Sink is set in what
// is stored. The broker's duplicate check covers the content, so that the same
// envelope may be put there again with other events of it.
func (c *Conn) PublishRetry(ctx context.Context, sink string, env *ledgerfeedv1.Envelope) error {
	return c.PublishRetryWith(ctx, sink, env, History{})
}

func message(stream, subject, id string, data []byte) *nats.Msg {
	m := nats.NewMsg(subject)
	m.Data = data
	m.Header.Set(jetstream.MsgIDHeader, id)
	// Only this stream's acknowledgement counts, whoever else listens.
	m.Header.Set(jetstream.ExpectedStreamHeader, stream)
	return m
}

func (c *Conn) publishOne(ctx context.Context, m *nats.Msg) error {
	return c.publish(ctx, []*nats.Msg{m}, func(ctx context.Context, msgs []*nats.Msg) error {
		return errors.Join(c.each(ctx, msgs)...)
	})
}

// publish gives msgs to send within the bounds of time and memory.
func (c *Conn) publish(ctx context.Context, msgs []*nats.Msg, send func(context.Context, []*nats.Msg) error) error {
	if len(msgs) == 0 {
		return nil
	}
	// A timer less where the caller is in a greater hurry.
	if d, ok := ctx.Deadline(); !ok || time.Until(d) > c.cfg.PublishTimeout {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.cfg.PublishTimeout)
		defer cancel()
	}

	// All of a call at once: calls that each hold a part and wait for more
	// would wait for each other.
	weight := min(weigh(msgs), maxInFlight)
	if err := c.inFlight.Acquire(ctx, weight); err != nil {
		return fmt.Errorf("%w: too much in flight: %w", ErrNotDurable, err)
	}
	defer c.inFlight.Release(weight)
	return send(ctx, msgs)
}

// each publishes every message for itself, all at the same time, and returns
// what became of each.
func (c *Conn) each(ctx context.Context, msgs []*nats.Msg) []error {
	outcome := make([]error, len(msgs))
	parcels, err := c.outbox.send(ctx, msgs)
	for i, m := range msgs {
		switch {
		case err != nil:
			// The outbox may still write to the message: its id is not read any more.
			outcome[i] = notDurable(m.Subject, c.deniedSubject(m.Subject, err))
		case parcels[i].err != nil:
			outcome[i] = notDurable(id(m), c.deniedSubject(m.Subject, parcels[i].err))
		}
	}
	return outcome
}

// tooLarge reports whether the server may refuse one of msgs for its size: in a
// batch that would fail the others.
func (c *Conn) tooLarge(msgs []*nats.Msg) bool {
	limit := int(c.maxPayload.Load()) - batchReserve
	return slices.ContainsFunc(msgs, func(m *nats.Msg) bool { return len(m.Data) > limit })
}

// batchReserve is room for the headers of a message of a batch.
const batchReserve = 4 << 10

func weigh(msgs []*nats.Msg) int64 {
	var sum int64
	for _, m := range msgs {
		sum += int64(max(len(m.Data), minWeight))
	}
	return sum
}

func notDurable(id string, err error) error {
	var api *jetstream.APIError
	switch {
	case errors.As(err, &api) && (api.ErrorCode == codeStoreFailed || api.ErrorCode == codeStorageExceeded):
		return fmt.Errorf("%w: publish %s: %w: %w", ErrNotDurable, id, ErrFull, err)
	case errors.Is(err, nats.ErrMaxPayload), errors.Is(err, jetstream.ErrStreamMessageExceedsMaximum):
		return fmt.Errorf("%w: publish %s: %w: %w", ErrNotDurable, id, ErrTooLarge, err)
	}
	return fmt.Errorf("%w: publish %s: %w", ErrNotDurable, id, err)
}

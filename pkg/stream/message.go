package stream

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// Message is one delivery of a stored message.
type Message struct {
	msg  jetstream.Msg
	meta *jetstream.MsgMetadata
}

func newMessage(m jetstream.Msg) *Message {
	meta, err := m.Metadata()
	if err != nil {
		// Not from a consumer: cannot be settled, but must not crash us either.
		meta = &jetstream.MsgMetadata{NumDelivered: 1}
	}
	return &Message{msg: m, meta: meta}
}

// Envelope decodes the message; the error is an *envelope.InvalidError, or
// envelope.ErrNewer.
func (m *Message) Envelope() (*ledgerfeedv1.Envelope, error) { return envelope.Decode(m.msg.Data()) }

// Data is the message as stored. It must not be changed.
func (m *Message) Data() []byte { return m.msg.Data() }

// Subject is where it was published.
func (m *Message) Subject() string { return m.msg.Subject() }

// Delivered is how often it was delivered, this time included.
func (m *Message) Delivered() int { return int(m.meta.NumDelivered) }

// Published is when the broker stored it.
func (m *Message) Published() time.Time { return m.meta.Timestamp }

// ID is the same for every delivery of this message and no other's: its stream
// and number.
func (m *Message) ID() string {
	return fmt.Sprintf("%s/%d", m.meta.Stream, m.meta.Sequence.Stream)
}

// Ack says that the message is done with and waits until the broker has taken
// that down. After an error the message may come again.
func (m *Message) Ack(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if err := m.msg.DoubleAck(ctx); err != nil {
		return fmt.Errorf("ack %s: %w", m.ID(), err)
	}
	return nil
}

// Nak gives the message back, to be delivered again after delay. A delay of zero
// or less is Backoff of how often it was delivered: the broker would redeliver a
// bare nak at once, in a busy loop. If the nak is lost, AckWait does the same
// later.
func (m *Message) Nak(delay time.Duration) error {
	if delay <= 0 {
		delay = Backoff(m.Delivered())
	}
	if err := m.msg.NakWithDelay(delay); err != nil {
		return fmt.Errorf("nak %s: %w", m.ID(), err)
	}
	return nil
}

// Term removes the message without having it delivered. Only for what is safe
// elsewhere: see Conn.Dead.
func (m *Message) Term(reason string) error {
	// The reason ends in an advisory of the broker, as one line.
	if err := m.msg.TermWithReason(strings.Join(strings.Fields(reason), " ")); err != nil {
		return fmt.Errorf("term %s: %w", m.ID(), err)
	}
	return nil
}

// InProgress starts AckWait anew.
func (m *Message) InProgress() error {
	if err := m.msg.InProgress(); err != nil {
		return fmt.Errorf("extend %s: %w", m.ID(), err)
	}
	return nil
}

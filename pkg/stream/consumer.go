package stream

import (
	"context"
	"time"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// Queue is a work queue that is consumed: Events, or Retry of a sink.
type Queue string

// Events is the queue of all envelopes.
const Events Queue = "events"

// Retry is the queue of envelopes that wait for one sink.
func Retry(sink string) Queue { return Queue("retry/" + sink) }

// ConsumeOptions say what to consume and how much of it at once.
type ConsumeOptions struct {
	Queue         Queue
	Durable       string
	AckWait       time.Duration
	MaxAckPending int
	MaxBytes      int
}

// Consume calls handle for each message until ctx ends.
func (c *Conn) Consume(ctx context.Context, o ConsumeOptions, handle func(*Message)) error {
	return nil
}

// Lag is how far behind a consumer is.
type Lag struct {
	Pending    uint64
	AckPending uint64
}

// Lag reports how far behind the durable is.
func (c *Conn) Lag(ctx context.Context, q Queue, durable string) (Lag, error) { return Lag{}, nil }

// Message is one delivery.
type Message struct{}

func (m *Message) Envelope() (*ledgerfeedv1.Envelope, error) { return nil, nil }
func (m *Message) Data() []byte                              { return nil }
func (m *Message) Subject() string                           { return "" }
func (m *Message) Ack(ctx context.Context) error             { return nil }
func (m *Message) Nak(delay time.Duration) error             { return nil }
func (m *Message) Term(reason string) error                  { return nil }
func (m *Message) InProgress() error                         { return nil }
func (m *Message) Delivered() int                            { return 0 }
func (m *Message) Published() time.Time                      { return time.Time{} }

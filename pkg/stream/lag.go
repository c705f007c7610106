package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Lag is how far behind a consumer is.
type Lag struct {
	// Pending messages were never delivered.
	Pending uint64
	// AckPending messages are delivered and not settled, or wait for the delay
	// of a nak to pass.
	AckPending uint64
	// Redelivered of those were delivered more than once.
	Redelivered uint64
	// Stored is all there is in the queue. More than Pending and AckPending
	// together over some time means messages that no consumer will ever get.
	Stored uint64
	// Oldest is when the oldest message of the stream was stored; zero if it is
	// empty. For Retry it is over all sinks.
	Oldest time.Time
}

// Lag reports how far behind the durable is. If it does not exist yet, all that
// is stored is pending.
func (c *Conn) Lag(ctx context.Context, q Queue, durable string) (Lag, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	name, filter, err := q.place()
	if err != nil {
		return Lag{}, fmt.Errorf("lag: %w", err)
	}
	s, err := c.js.Stream(ctx, name)
	if err != nil {
		return Lag{}, fmt.Errorf("lag of %s: %w", q, err)
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(filter))
	if err != nil {
		return Lag{}, fmt.Errorf("lag of %s: %w", q, err)
	}
	state := info.State
	var lag Lag
	for _, n := range state.Subjects {
		lag.Stored += n
	}
	if state.Msgs > 0 {
		lag.Oldest = state.FirstTime
	}
	cons, err := s.Consumer(ctx, durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		lag.Pending = lag.Stored
		return lag, nil
	}
	if err != nil {
		return Lag{}, fmt.Errorf("lag of %s, consumer %s: %w", q, durable, err)
	}
	ci := cons.CachedInfo()
	lag.Pending, lag.AckPending, lag.Redelivered = ci.NumPending, uint64(ci.NumAckPending), uint64(ci.NumRedelivered)
	return lag, nil
}

// Usage is how full a stream is.
type Usage struct {
	Stream   string
	Messages uint64
	Bytes    uint64
	MaxBytes int64
}

// Usage reports every stream of the topology.
func (c *Conn) Usage(ctx context.Context) ([]Usage, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var all []Usage
	for _, name := range []string{EventStream, RetryStream, DeadStream, ChangeStream} {
		s, err := c.js.Stream(ctx, name)
		if name == ChangeStream && errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("usage of stream %s: %w", name, err)
		}
		info := s.CachedInfo()
		all = append(all, Usage{Stream: name, Messages: info.State.Msgs, Bytes: info.State.Bytes, MaxBytes: info.Config.MaxBytes})
	}
	return all, nil
}

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

// Lag reports how far behind the durable is; of Events, with those of its groups,
// see GroupDurable. If there is none yet, all that is stored is pending.
func (c *Conn) Lag(ctx context.Context, q Queue, durable string) (Lag, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	name, filters, err := q.place()
	if err != nil {
		return Lag{}, fmt.Errorf("lag: %w", err)
	}
	s, err := c.js.Stream(ctx, name)
	if err != nil {
		return Lag{}, fmt.Errorf("lag of %s: %w", q, err)
	}
	var lag Lag
	for _, filter := range filters {
		info, err := s.Info(ctx, jetstream.WithSubjectFilter(filter))
		if err != nil {
			return Lag{}, fmt.Errorf("lag of %s: %w", q, err)
		}
		for _, n := range info.State.Subjects {
			lag.Stored += n
		}
		if info.State.Msgs > 0 {
			lag.Oldest = info.State.FirstTime
		}
	}
	found := false
	consumers := s.ListConsumers(ctx)
	for ci := range consumers.Info() {
		if ci.Name != durable && (q != Events || !groupOf(ci.Name, durable)) {
			continue
		}
		found = true
		lag.Pending += ci.NumPending
		lag.AckPending += uint64(ci.NumAckPending)
		lag.Redelivered += uint64(ci.NumRedelivered)
	}
	if err := consumers.Err(); err != nil {
		return Lag{}, fmt.Errorf("lag of %s, consumer %s: %w", q, durable, err)
	}
	if !found {
		lag.Pending = lag.Stored
	}
	return lag, nil
}

// GroupLags is how far behind the consumers of the groups are, without Stored, and
// when the oldest message of all was stored; zero if there is none.
func (c *Conn) GroupLags(ctx context.Context, durable string) (lags [Groups]Lag, oldest time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	s, err := c.js.Stream(ctx, EventStream)
	if err != nil {
		return lags, oldest, fmt.Errorf("lag of %s: %w", Events, err)
	}
	if state := s.CachedInfo().State; state.Msgs > 0 {
		oldest = state.FirstTime
	}
	consumers := s.ListConsumers(ctx)
	for ci := range consumers.Info() {
		for g := range lags {
			if ci.Name == GroupDurable(durable, g) {
				lags[g] = Lag{Pending: ci.NumPending, AckPending: uint64(ci.NumAckPending), Redelivered: uint64(ci.NumRedelivered)}
			}
		}
	}
	if err := consumers.Err(); err != nil {
		return lags, oldest, fmt.Errorf("lag of %s: %w", Events, err)
	}
	return lags, oldest, nil
}

// groupOf reports whether name is one of GroupDurable of durable.
func groupOf(name, durable string) bool {
	for g := range Groups {
		if name == GroupDurable(durable, g) {
			return true
		}
	}
	return false
}

// DeleteConsumer removes a durable; what it had in hand is delivered to the next
// one. One that is not there is no error. With SetupVerify nothing is deleted.
func (c *Conn) DeleteConsumer(ctx context.Context, q Queue, durable string) error {
	if c.cfg.Setup == SetupVerify {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	name, _, err := q.place()
	if err == nil {
		err = c.js.DeleteConsumer(ctx, name, durable)
	}
	if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return fmt.Errorf("delete consumer %s of %s: %w", durable, q, err)
	}
	return nil
}

// Usage is how full a stream is.
type Usage struct {
	Stream   string
	Messages uint64
	Bytes    uint64
	MaxBytes int64
}

// Usage reports every stream of the topology, and sets the gauges of how full they are.
func (c *Conn) Usage(ctx context.Context) ([]Usage, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var all []Usage
	for _, name := range streams {
		s, err := c.js.Stream(ctx, name)
		// Not every sink uses the one, and earlier versions did not have the other.
		if (name == ChangeStream || name == GapStream) && errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("usage of stream %s: %w", name, err)
		}
		info := s.CachedInfo()
		all = append(all, Usage{Stream: name, Messages: info.State.Msgs, Bytes: info.State.Bytes, MaxBytes: info.Config.MaxBytes})
	}
	c.metrics.usage(all)
	return all, nil
}

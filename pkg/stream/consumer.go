package stream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// Queue is a work queue that is consumed: Events, or Retry of a sink.
type Queue string

// Events is the queue of all envelopes.
const Events Queue = "events"

const retryPrefix = "retry/"

// Retry is the queue of envelopes that wait for one sink.
func Retry(sink string) Queue { return Queue(retryPrefix + sink) }

func (q Queue) place() (stream, filter string, err error) {
	if q == Events {
		return EventStream, "lf.event.>", nil
	}
	if sink, ok := strings.CutPrefix(string(q), retryPrefix); ok && sink != "" {
		return RetryStream, "lf.retry." + envelope.RealmToken(sink) + ".>", nil
	}
	return "", "", fmt.Errorf("queue %q: want stream.Events or stream.Retry of a sink", string(q))
}

// ConsumeOptions say what to consume and how much of it at once. All replicas
// share the durable, so they must agree on the options.
type ConsumeOptions struct {
	Queue Queue
	// Durable names the consumer on the server. A work queue takes one per
	// Queue: another name for the same queue is refused by the broker.
	Durable string
	// AckWait is how long a message may stay unsettled before the broker
	// delivers it again; InProgress starts it anew. Zero is a minute.
	AckWait time.Duration
	// MaxAckPending bounds the unsettled messages, over all replicas. Zero is 1024.
	MaxAckPending int
	// MaxBytes bounds what one pull brings; never less than the server's largest
	// message, which could not be delivered at all. Zero is 8 MiB.
	MaxBytes int
}

func (o ConsumeOptions) withDefaults() ConsumeOptions {
	if o.AckWait == 0 {
		o.AckWait = time.Minute
	}
	if o.MaxAckPending == 0 {
		o.MaxAckPending = 1024
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 8 << 20
	}
	return o
}

func (o ConsumeOptions) validate() error {
	switch {
	case o.Durable == "" || strings.ContainsAny(o.Durable, " .*>/\\\t\r\n"):
		return fmt.Errorf("durable %q: want a name without spaces, dots, wildcards and slashes", o.Durable)
	case o.AckWait < 0 || o.MaxAckPending < 0 || o.MaxBytes < 0:
		return fmt.Errorf("durable %s: limits must not be negative", o.Durable)
	}
	return nil
}

// config leaves BackOff empty: it would override AckWait. MaxDeliver is without
// limit: a message over the limit stays in a work queue for ever, undelivered,
// and no lag shows it. What must not be tried again goes to the dead letters.
// What the broker cannot change on a durable later (MaxWaiting, among others)
// stays at its default, so that every durable can be brought to this.
func (o ConsumeOptions) config(filter string) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable:       o.Durable,
		FilterSubject: filter,
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       o.AckWait,
		MaxDeliver:    -1,
		MaxAckPending: o.MaxAckPending,
	}
}

const (
	// Pulls end on the server after pullExpiry and are renewed; a broker that
	// says nothing for two heartbeats is asked again.
	pullExpiry    = 20 * time.Second
	pullHeartbeat = 5 * time.Second
	// releaseDelay: what a stopping consumer was given but has not looked at
	// goes to another replica soon, yet not back to this one while it stops.
	releaseDelay = 100 * time.Millisecond
)

// Consume calls handle for each message, one call at a time, until ctx ends;
// then it returns nil and handle is not called again. handle must not block for
// long: what is delivered behind it waits, and its AckWait runs. It settles the
// message, during the call or later, with exactly one of Ack, Nak, Term or
// Conn.Dead; a message not settled within AckWait comes again.
//
// Consume outlives restarts of the broker and recreates its durable and the
// streams should they be gone. It returns an error only for options that cannot
// work, if the broker refuses the consumer at the start, or ErrClosed.
func (c *Conn) Consume(ctx context.Context, o ConsumeOptions, handle func(*Message)) error {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return fmt.Errorf("consume %s: %w", o.Queue, err)
	}
	stream, filter, err := o.Queue.place()
	if err != nil {
		return fmt.Errorf("consume: %w", err)
	}
	for failures := 0; !over(ctx); {
		started := time.Now()
		err := c.consume(ctx, stream, o.config(filter), o.MaxBytes, handle)
		switch {
		case over(ctx):
			return nil
		case c.nc.IsClosed():
			return fmt.Errorf("consume %s: %w", o.Queue, ErrClosed)
		case failures == 0 && refused(err):
			return fmt.Errorf("consume %s: %w", o.Queue, err)
		}
		if failures++; time.Since(started) > time.Minute {
			failures = 1
		}
		pause := min(Backoff(failures)/4, 5*time.Second)
		c.log.Warn("consumer interrupted", telemetry.Consumer(o.Durable), telemetry.After(pause), telemetry.Error(err))
		c.healStreams(ctx, err)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	return nil
}

// over reports whether ctx has ended, which is how Consume is told to stop and
// no error.
func over(ctx context.Context) bool { return ctx.Err() != nil }

// refused tells a consumer that cannot be from a broker in trouble.
func refused(err error) bool {
	var api *jetstream.APIError
	if !errors.As(err, &api) || errors.Is(err, jetstream.ErrStreamNotFound) {
		return false
	}
	return api.Code >= 400 && api.Code < 500 || api.ErrorCode == jetstream.JSErrCodeConsumerCreate
}

func (c *Conn) healStreams(ctx context.Context, err error) {
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return
	}
	if err := c.EnsureTopology(ctx); err != nil && ctx.Err() == nil {
		c.log.Warn("streams not created again", telemetry.Error(err))
	}
}

// consume runs until ctx ends or the consumer has to be made anew.
func (c *Conn) consume(ctx context.Context, stream string, cfg jetstream.ConsumerConfig, maxBytes int, handle func(*Message)) error {
	create, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	cons, err := c.js.CreateOrUpdateConsumer(create, stream, cfg)
	if err != nil {
		return fmt.Errorf("create consumer %s: %w", cfg.Durable, err)
	}

	broken := make(chan error, 1)
	onError := func(_ jetstream.ConsumeContext, err error) {
		if !fatal(err) {
			c.log.Debug("consumer hiccup", telemetry.Consumer(cfg.Durable), telemetry.Error(err))
			return
		}
		select {
		case broken <- err:
		default:
		}
	}
	deliver := func(m jetstream.Msg) {
		msg := newMessage(m)
		if ctx.Err() != nil {
			// Drained, not handled.
			if err := msg.Nak(releaseDelay); err != nil {
				c.log.Debug("message not released", telemetry.Consumer(cfg.Durable), telemetry.Error(err))
			}
			return
		}
		handle(msg)
	}
	batch := min(cfg.MaxAckPending, 500)
	limit := max(maxBytes, int(c.nc.MaxPayload())+headerReserve)
	run, err := cons.Consume(deliver,
		jetstream.PullMaxMessagesWithBytesLimit(batch, limit),
		jetstream.PullExpiry(pullExpiry),
		jetstream.PullHeartbeat(pullHeartbeat),
		jetstream.ConsumeErrHandler(onError),
	)
	if err != nil {
		return fmt.Errorf("pull from consumer %s: %w", cfg.Durable, err)
	}
	c.log.Debug("consumer started", telemetry.Consumer(cfg.Durable))
	select {
	case <-ctx.Done():
	case err = <-broken:
	case <-run.Closed():
		err = ErrClosed
	}
	if c.nc.IsConnected() {
		// Also takes what the broker sent before it learns that we stop; dropped,
		// it would be stuck for AckWait.
		run.Drain()
	} else {
		run.Stop()
	}
	<-run.Closed()
	c.log.Debug("consumer stopped", telemetry.Consumer(cfg.Durable))
	return err
}

// fatal are the errors after which pulling goes nowhere: the consumer is gone,
// or nobody answers for it.
func fatal(err error) bool {
	return errors.Is(err, jetstream.ErrConsumerDeleted) || errors.Is(err, jetstream.ErrConsumerNotFound) ||
		errors.Is(err, jetstream.ErrBadRequest) || errors.Is(err, nats.ErrNoResponders) ||
		errors.Is(err, jetstream.ErrConnectionClosed)
}

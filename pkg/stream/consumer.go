package stream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// Queue is what is consumed: Events or a Group of them, Waiting, Retry of a sink, or
// Gaps.
type Queue string

// Events is the queue of all envelopes.
const Events Queue = "events"

// Waiting is the queue of the messages that have left Events because they cannot be
// read for long: see [Conn.PublishWaiting].
const Waiting Queue = "waiting"

const (
	retryPrefix = "retry/"
	groupPrefix = "events/"
)

// Groups is how many consumers share the events, each with the partitions of one
// group: so a group can have a replica of its own, and a full one holds up no other.
// Each costs the broker a consumer (three of them, and a Raft group, in a cluster).
// It is in the names of the consumers: see ADR 6 before changing it.
const Groups = 16

// Group is the part of Events with the partitions of one group, 0 to Groups-1.
func Group(g int) Queue { return Queue(groupPrefix + strconv.Itoa(g)) }

// GroupDurable is the name of the consumer of a group; [Conn.Lag] of Events adds
// those of the same durable up.
func GroupDurable(durable string, g int) string { return fmt.Sprintf("%s-%02d", durable, g) }

// Retry is the queue of envelopes that wait for one sink.
func Retry(sink string) Queue { return Queue(retryPrefix + sink) }

// place is where a queue is: its stream, and the subjects there.
func (q Queue) place() (stream string, filters []string, err error) {
	switch q {
	case Events:
		return EventStream, []string{"lf.event.>"}, nil
	case Gaps:
		return GapStream, []string{"lf.gap.>"}, nil
	case Waiting:
		return RetryStream, []string{"lf.retry." + envelope.RealmToken(waitingSink) + ".>"}, nil
	}
	if sink, ok := strings.CutPrefix(string(q), retryPrefix); ok && sink != "" {
		return RetryStream, []string{"lf.retry." + envelope.RealmToken(sink) + ".>"}, nil
	}
	if text, ok := strings.CutPrefix(string(q), groupPrefix); ok {
		if g, err := strconv.Atoi(text); err == nil && g >= 0 && g < Groups {
			for p := g; p < envelope.Partitions; p += Groups {
				filters = append(filters, fmt.Sprintf("lf.event.%02d.>", p))
			}
			return EventStream, filters, nil
		}
	}
	return "", nil, fmt.Errorf("queue %q: want stream.Events, stream.Waiting, stream.Group, stream.Gaps or stream.Retry of a sink", string(q))
}

// RetryDurable is the name of the consumer of a sink's retry queue.
func RetryDurable(durable, sink string) string { return durable + "-" + envelope.RealmToken(sink) }

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
	// Prioritized has the broker give messages to the consumers with the least
	// Priority (0 to 9) that have asked for any, to the others only what those do
	// not ask for. All consumers of a durable must be.
	Prioritized bool
	Priority    uint8
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
	case o.Priority > 9:
		return fmt.Errorf("durable %s: priority %d: want 0 to 9", o.Durable, o.Priority)
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
func (o ConsumeOptions) config(filters []string) jetstream.ConsumerConfig {
	c := jetstream.ConsumerConfig{
		Durable:       o.Durable,
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       o.AckWait,
		MaxDeliver:    -1,
		MaxAckPending: o.MaxAckPending,
	}
	if sabotage.On(sabotage.MaxDeliver) {
		c.MaxDeliver = 3
	}
	if len(filters) == 1 {
		c.FilterSubject = filters[0]
	} else {
		c.FilterSubjects = filters
	}
	if o.Prioritized {
		c.PriorityPolicy, c.PriorityGroups = jetstream.PriorityPolicyPrioritized, []string{priorityGroup}
	}
	return c
}

// priorityGroup is the one that all prioritized consumers are in.
const priorityGroup = "replicas"

// pull says how much is asked for at once, and with which priority.
func (o ConsumeOptions) pull(limit int) []jetstream.PullConsumeOpt {
	opts := []jetstream.PullConsumeOpt{
		jetstream.PullMaxMessagesWithBytesLimit(min(o.MaxAckPending, 500), limit),
		jetstream.PullExpiry(pullExpiry),
		jetstream.PullHeartbeat(pullHeartbeat),
	}
	if o.Prioritized {
		opts = append(opts, jetstream.PullPriorityGroup(priorityGroup), jetstream.PullPrioritized(o.Priority))
	}
	return opts
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
	stream, filters, err := o.Queue.place()
	if err != nil {
		return fmt.Errorf("consume: %w", err)
	}
	defer c.uses(stream, o.config(filters))()
	for failures := 0; !over(ctx); {
		started := time.Now()
		err := c.consume(ctx, stream, filters, o, handle)
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
		if denied := c.accessError(); denied != nil && errors.Is(err, context.DeadlineExceeded) {
			err = denied
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
	if !errors.As(err, &api) || api.Code == http.StatusNotFound {
		return false // what is not found is made again, or was being made
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
func (c *Conn) consume(ctx context.Context, stream string, filters []string, o ConsumeOptions, handle func(*Message)) error {
	cfg := o.config(filters)
	create, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	cons, err := c.consumer(create, stream, cfg)
	if err != nil {
		return err
	}

	broken := make(chan error, 1)
	onError := func(_ jetstream.ConsumeContext, err error) {
		if !fatal(err) {
			c.log.Debug("consumer reported an error", telemetry.Consumer(cfg.Durable), telemetry.Error(err))
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
	limit := max(o.MaxBytes, int(c.nc.MaxPayload())+headerReserve)
	run, err := cons.Consume(deliver, append(o.pull(limit), jetstream.ConsumeErrHandler(onError))...)
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

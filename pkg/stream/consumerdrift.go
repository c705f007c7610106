package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
)

// consuming is a consumer that this connection uses, and its configuration.
type consuming struct {
	stream string
	want   jetstream.ConsumerConfig
}

// uses notes that a consumer is in use until the returned function is called.
func (c *Conn) uses(stream string, want jetstream.ConsumerConfig) (end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.consumers[want.Durable] = consuming{stream, want}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.consumers, want.Durable)
		delete(c.unset, want.Durable)
	}
}

// ConsumerDrift compares consumers with what their options say and changes nothing. It
// returns a *DriftError for each setting that differs, joined. A consumer that is missing
// is one too, but for one of a stream that is missing.
func (c *Conn) ConsumerDrift(ctx context.Context, all ...ConsumeOptions) error {
	var errs []error
	for _, o := range all {
		name, filters, err := o.Queue.place()
		if err != nil {
			return err
		}
		errs = append(errs, c.consumerDrift(ctx, consuming{name, o.withDefaults().config(filters)}))
	}
	return errors.Join(errs...)
}

// usedConsumerDrift is ConsumerDrift of the consumers in use. One that is missing is
// looked for again, as Consume creates it within seconds.
func (c *Conn) usedConsumerDrift(ctx context.Context) error {
	c.mu.Lock()
	all := make([]consuming, 0, len(c.consumers))
	for _, used := range c.consumers {
		all = append(all, used)
	}
	c.mu.Unlock()
	var errs []error
	for _, used := range all {
		err := c.consumerDrift(ctx, used)
		if d, ok := errors.AsType[*DriftError](err); ok && d.Field == fieldMissing {
			if lifecycle.Sleep(ctx, recreateWithin) != nil {
				return ctx.Err()
			}
			err = c.consumerDrift(ctx, used)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

const (
	fieldMissing = "consumer"
	// recreateWithin is when Consume has created a deleted consumer again.
	recreateWithin = 10 * time.Second
)

func (c *Conn) consumerDrift(ctx context.Context, used consuming) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	name := used.want.Durable
	cons, err := c.js.Consumer(ctx, used.stream, name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return nil // see Conn.Ready
	case errors.Is(err, jetstream.ErrConsumerNotFound):
		return &DriftError{
			Stream: used.stream, Consumer: name, Field: fieldMissing, Have: "missing", Want: "there",
			Remedy: "start a processor, which creates it; until then its messages wait",
		}
	case err != nil:
		return c.topologyError("look up consumer "+name+" of", used.stream, err)
	}
	return c.compareConsumer(used, cons.CachedInfo())
}

// compareConsumer compares what delivery relies on.
func (c *Conn) compareConsumer(used consuming, info *jetstream.ConsumerInfo) error {
	want, have := used.want, info.Config
	recreate := fmt.Sprintf("run `nats consumer rm %s %s`: a running processor creates it again within seconds, and what was not acked is delivered again", used.stream, want.Durable)
	const restart = "restart a processor, which sets it"
	replicas := want.Replicas // 0: as the stream
	if have.Replicas >= c.cfg.Profile.Replicas() || c.cfg.AllowMismatch {
		replicas = have.Replicas
	}
	resume := fmt.Sprintf("run `nats consumer resume %s %s`", used.stream, want.Durable)
	var errs []error
	for _, f := range []struct {
		field      string
		have, want any
		remedy     string
	}{
		{"ack_policy", have.AckPolicy, want.AckPolicy, recreate},
		{"deliver_policy", have.DeliverPolicy, want.DeliverPolicy, recreate},
		{"filter_subjects", filtersOf(have), filtersOf(want), restart},
		{"ack_wait", have.AckWait, want.AckWait, restart},
		{"backoff", len(have.BackOff), 0, restart},
		{"max_deliver", have.MaxDeliver, want.MaxDeliver, restart},
		{"max_ack_pending", have.MaxAckPending, want.MaxAckPending, restart},
		{"priority_policy", have.PriorityPolicy, want.PriorityPolicy, recreate},
		{"priority_groups", fmt.Sprint(have.PriorityGroups), fmt.Sprint(want.PriorityGroups), recreate},
		{"num_replicas", have.Replicas, replicas, restart},
		{"mem_storage", have.MemoryStorage, want.MemoryStorage, recreate},
		{"headers_only", have.HeadersOnly, want.HeadersOnly, restart},
		{"inactive_threshold", have.InactiveThreshold, want.InactiveThreshold, restart},
		{"paused", info.Paused, false, resume},
	} {
		if f.have != f.want {
			errs = append(errs, &DriftError{Stream: used.stream, Consumer: want.Durable, Field: f.field, Have: f.have, Want: f.want, Remedy: f.remedy})
		}
	}
	return errors.Join(errs...)
}

// filtersOf spells the filters of a consumer.
func filtersOf(c jetstream.ConsumerConfig) string {
	filters := slices.Clone(c.FilterSubjects)
	if c.FilterSubject != "" {
		filters = append(filters, c.FilterSubject)
	}
	slices.Sort(filters)
	return fmt.Sprint(filters)
}

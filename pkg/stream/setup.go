package stream

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// EnsureConsumers creates the consumers that are missing and brings the others to what
// their options say. A setting that the broker does not change is a *DriftError.
func (c *Conn) EnsureConsumers(ctx context.Context, all ...ConsumeOptions) error {
	var errs []error
	for _, o := range all {
		errs = append(errs, c.ensureConsumer(ctx, o.withDefaults()))
	}
	return errors.Join(errs...)
}

func (c *Conn) ensureConsumer(ctx context.Context, o ConsumeOptions) error {
	if err := o.validate(); err != nil {
		return fmt.Errorf("ensure consumer of %s: %w", o.Queue, err)
	}
	stream, filters, err := o.Queue.place()
	if err != nil {
		return fmt.Errorf("ensure consumer: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	used := consuming{stream, o.config(filters)}
	cons, err := c.js.CreateOrUpdateConsumer(ctx, stream, used.want)
	if err == nil {
		return c.compareConsumer(used, cons.CachedInfo())
	}
	// The broker says which setting it does not change, not what to do about it.
	if differs := c.consumerDrift(ctx, used); len(Drifts(differs)) > 0 {
		return differs
	}
	return c.topologyError("ensure consumer "+o.Durable+" of", stream, err)
}

// verifyTopology compares the streams that every feed has.
func (c *Conn) verifyTopology(ctx context.Context) error { return c.verify(ctx, c.topology()...) }

// verify compares streams with the configuration, and is ErrNotSetUp where one is missing
// or keeps less.
func (c *Conn) verify(ctx context.Context, all ...jetstream.StreamConfig) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var errs []error
	for _, want := range all {
		s, err := c.js.Stream(ctx, want.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			errs = append(errs, fmt.Errorf("stream %s is missing", want.Name))
			continue
		}
		if err != nil {
			return c.topologyError("look up", want.Name, c.deniedSubject(infoSubject(want.Name), err))
		}
		have := s.CachedInfo().Config
		if want.AllowAtomicPublish {
			c.batches.Store(have.AllowAtomicPublish)
		}
		errs = append(errs, c.less(want, have))
	}
	return notSetUp(errors.Join(errs...))
}

func notSetUp(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrNotSetUp, err)
}

// consumer returns the durable, created or brought to want. With SetupVerify it is only
// looked up: one that is missing is ErrNotSetUp and fails readiness, one that differs is
// used as it is, since a delivery by another limit is better than none.
func (c *Conn) consumer(ctx context.Context, stream string, want jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	if c.cfg.Setup != SetupVerify {
		cons, err := c.js.CreateOrUpdateConsumer(ctx, stream, want)
		if err != nil {
			return nil, fmt.Errorf("create consumer %s: %w", want.Durable, explainLimit(err))
		}
		return cons, nil
	}
	cons, err := c.js.Consumer(ctx, stream, want.Durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		err = notSetUp(fmt.Errorf("consumer %s of stream %s is missing", want.Durable, stream))
		c.noteUnset(want.Durable, err)
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("look up consumer %s: %w", want.Durable, err)
	}
	c.noteUnset(want.Durable, nil)
	if err := c.compareConsumer(consuming{stream, want}, cons.CachedInfo()); err != nil {
		c.log.Warn("consumer differs from the configuration", telemetry.Consumer(want.Durable), telemetry.Error(notSetUp(err)))
	}
	return cons, nil
}

// noteUnset records whether a consumer is missing, for Ready.
func (c *Conn) noteUnset(durable string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		delete(c.unset, durable)
		return
	}
	c.unset[durable] = err
}

// unsetError is one of the consumers that are missing, or nil.
func (c *Conn) unsetError() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, err := range c.unset {
		return err
	}
	return nil
}

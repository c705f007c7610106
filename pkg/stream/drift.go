package stream

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// Drift compares the streams there are with the configuration and changes nothing. It
// returns a *DriftError for each setting in which a stream keeps less, joined: somebody may
// have made or edited it by hand while services ran. A stream that is larger than
// configured is no drift, and one that is gone is left to [Conn.Ready].
func (c *Conn) Drift(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var errs []error
	for _, want := range c.topology() {
		s, err := c.js.Stream(ctx, want.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			return c.topologyError("look up", want.Name, err)
		}
		errs = append(errs, c.less(want, s.CachedInfo().Config))
	}
	return errors.Join(errs...)
}

// less returns each setting in which a stream keeps less than configured, or is compressed.
func (c *Conn) less(want, have jetstream.StreamConfig) error {
	if c.cfg.AllowMismatch {
		want.Replicas = have.Replicas
	}
	// Another replica may be configured to keep more, and has raised these.
	if higherLimit(have.MaxBytes, want.MaxBytes) {
		want.MaxBytes = have.MaxBytes
	}
	if higherLimit(have.MaxAge, want.MaxAge) {
		want.MaxAge = have.MaxAge
	}
	err := drift(want, have)
	if have.Compression != jetstream.NoCompression {
		err = errors.Join(err, &DriftError{
			Stream: want.Name, Field: "compression", Have: have.Compression, Want: jetstream.NoCompression, Remedy: uncompressCommand(want.Name),
		})
	}
	return err
}

// driftInterval is how often the streams are compared while a service runs.
const driftInterval = 5 * time.Minute

// WatchDrift compares the streams, and the consumers that this connection uses, with the
// configuration every few minutes, until ctx ends. It logs what has changed since the last
// time, and shows the rest in ledgerfeed_stream_drift and ledgerfeed_stream_consumer_drift.
func (c *Conn) WatchDrift(ctx context.Context) error {
	tick := time.NewTicker(driftInterval)
	defer tick.Stop()
	known := map[string]bool{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			known = c.lookForDrift(ctx, known)
		}
	}
}

func (c *Conn) lookForDrift(ctx context.Context, known map[string]bool) map[string]bool {
	err := errors.Join(c.Drift(ctx), c.usedConsumerDrift(ctx))
	if errors.Is(err, ErrUnreachable) || ctx.Err() != nil {
		return known
	}
	now := map[string]bool{}
	c.metrics.drifted.Reset()
	c.metrics.consumers.Reset()
	for _, d := range Drifts(err) {
		now[d.Error()] = true
		what := "stream differs from the configuration"
		if d.Consumer == "" {
			c.metrics.drifted.WithLabelValues(d.Stream, d.Field).Set(1)
		} else {
			what = "consumer differs from the configuration"
			c.metrics.consumers.WithLabelValues(d.Consumer, d.Field).Set(1)
		}
		if !known[d.Error()] {
			c.log.Warn(what, telemetry.Stream(d.Stream), telemetry.Error(d))
		}
	}
	return now
}

// Drifts are the *DriftErrors of a joined error.
func Drifts(err error) (all []*DriftError) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range joined.Unwrap() {
			all = append(all, Drifts(one)...)
		}
		return all
	}
	if d, ok := errors.AsType[*DriftError](err); ok {
		all = append(all, d)
	}
	return all
}

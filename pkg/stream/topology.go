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
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// The streams.
const (
	EventStream  = "LF_EVENTS"
	RetryStream  = "LF_RETRY"
	DeadStream   = "LF_DEAD"
	ChangeStream = "LF_CHANGES"
	GapStream    = "LF_GAPS"
)

// duplicateWindow is how long the broker remembers a message id. Longer costs
// the broker memory for each message and gains little: the marks are what makes
// a repeated message harmless.
const duplicateWindow = 2 * time.Minute

// DriftError says that a stream exists with another setting than configured.
// Nothing was changed: to shrink a stream or to change its subjects may lose
// messages, so a person decides (see UpdateTopology).
type DriftError struct {
	Stream, Field string
	Have, Want    any
}

func (e *DriftError) Error() string {
	return fmt.Sprintf("stream %s: %s is %v on the server, but %v is configured", e.Stream, e.Field, e.Have, e.Want)
}

// EnsureTopology creates the streams that are missing and compares the others
// with the configuration. It returns a *DriftError for each setting that
// differs, joined, and an ErrUnreachable at once where JetStream does not answer. Any
// number of processes may call it at once.
func (c *Conn) EnsureTopology(ctx context.Context) error {
	var errs []error
	for _, want := range []jetstream.StreamConfig{c.events(), c.retry(), c.dead(), c.gaps()} {
		err := c.ensure(ctx, want)
		if errors.Is(err, ErrUnreachable) {
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// EnsureChanges does the same for the stream of the NATS sink, which exists only
// where that sink is used.
func (c *Conn) EnsureChanges(ctx context.Context) error { return c.ensure(ctx, c.changes()) }

// UpdateTopology applies the configuration to the streams there are. Growing is
// safe. A limit below what a stream holds is refused by the broker or lets it
// discard the oldest messages of LF_DEAD, LF_CHANGES and LF_GAPS.
func (c *Conn) UpdateTopology(ctx context.Context) error {
	var errs []error
	for _, want := range []jetstream.StreamConfig{c.events(), c.retry(), c.dead(), c.gaps()} {
		ctx, cancel := context.WithTimeout(ctx, requestTimeout)
		if _, err := c.js.CreateOrUpdateStream(ctx, want); err != nil {
			errs = append(errs, fmt.Errorf("update stream %s: %w", want.Name, err))
		}
		cancel()
	}
	return errors.Join(errs...)
}

func (c *Conn) events() jetstream.StreamConfig {
	s := c.stream(EventStream, "lf.event.>", c.cfg.EventsMaxBytes)
	s.Description = "envelopes for the processor"
	s.Retention = jetstream.WorkQueuePolicy
	s.AllowAtomicPublish = c.cfg.Profile.SyncsEach()
	return s
}

func (c *Conn) retry() jetstream.StreamConfig {
	s := c.stream(RetryStream, "lf.retry.>", c.cfg.RetryMaxBytes)
	s.Description = "envelopes one sink has not taken yet"
	s.Retention = jetstream.WorkQueuePolicy
	return s
}

func (c *Conn) dead() jetstream.StreamConfig {
	s := c.stream(DeadStream, "lf.dead.>", c.cfg.DeadMaxBytes)
	s.Description = "what cannot be delivered, with the reason"
	s.MaxAge = c.cfg.DeadMaxAge
	return s
}

// Gaps are kept whether or not somebody reads them, for as long as it is likely that
// somebody will.
const (
	gapsMaxBytes = 256 << 20
	gapsMaxAge   = 30 * 24 * time.Hour
)

func (c *Conn) gaps() jetstream.StreamConfig {
	s := c.stream(GapStream, "lf.gap.>", gapsMaxBytes)
	s.Description = "the ledger of gaps, for the sinks that keep it"
	s.MaxAge = gapsMaxAge
	s.Discard = jetstream.DiscardOld // it must not hold up a repair
	return s
}

func (c *Conn) changes() jetstream.StreamConfig {
	s := c.stream(ChangeStream, "lf.change.>", c.cfg.ChangesMaxBytes)
	s.Description = "changes, by the NATS sink"
	s.MaxAge = c.cfg.ChangesMaxAge
	// Its readers are others: they may fall behind without stopping the feed.
	s.Discard = jetstream.DiscardOld
	return s
}

// stream is what all have in common. A full stream refuses the new message
// instead of dropping the oldest: who publishes is told and keeps it. None is
// compressed: publishers would wait while the server compresses a block (ADR 13), and
// a compressed stream may not survive that the server is killed (ADR 14).
func (c *Conn) stream(name, subjects string, maxBytes int64) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        name,
		Subjects:    []string{subjects},
		Storage:     jetstream.FileStorage,
		Replicas:    c.cfg.Profile.Replicas(),
		Compression: jetstream.NoCompression,
		Discard:     jetstream.DiscardNew,
		MaxBytes:    maxBytes,
		Duplicates:  duplicateWindow,
	}
}

func (c *Conn) ensure(ctx context.Context, want jetstream.StreamConfig) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	s, err := c.js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if s, err = c.js.CreateStream(ctx, want); err == nil {
			c.log.Info("stream created", telemetry.Stream(want.Name))
		}
	}
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		// Another process was faster, with another configuration.
		s, err = c.js.Stream(ctx, want.Name)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("%w at %s: ensure stream %s: %w", ErrUnreachable, c.Address(), want.Name, err)
	case err != nil:
		return fmt.Errorf("ensure stream %s: %w", want.Name, err)
	}
	have := s.CachedInfo().Config
	if want.AllowAtomicPublish {
		c.batches.Store(have.AllowAtomicPublish || c.allowBatches(ctx, have))
	}
	if c.cfg.AllowMismatch {
		want.Replicas = have.Replicas // Durability reports it
	}
	return drift(want, have)
}

// allowBatches turns atomic batches on for a stream of an earlier version. It
// changes nothing about the messages; a server that does not know them does without.
func (c *Conn) allowBatches(ctx context.Context, have jetstream.StreamConfig) bool {
	have.AllowAtomicPublish = true
	s, err := c.js.UpdateStream(ctx, have)
	if err == nil && s.CachedInfo().Config.AllowAtomicPublish {
		return true
	}
	c.log.Warn("stream takes no batches: every message is synced to disk by itself", telemetry.Stream(have.Name), telemetry.Error(err))
	return false
}

// drift compares what this package relies on; the rest is the operator's.
func drift(want, have jetstream.StreamConfig) error {
	var errs []error
	for _, f := range []struct {
		field      string
		have, want any
	}{
		{"retention", have.Retention, want.Retention},
		{"discard", have.Discard, want.Discard},
		{"storage", have.Storage, want.Storage},
		{"num_replicas", have.Replicas, want.Replicas},
		{"max_bytes", have.MaxBytes, want.MaxBytes},
		{"max_age", have.MaxAge, want.MaxAge},
		{"max_msgs", have.MaxMsgs, int64(-1)},
		{"max_msgs_per_subject", have.MaxMsgsPerSubject, int64(-1)},
		{"duplicate_window", have.Duplicates, want.Duplicates},
		{"no_ack", have.NoAck, false},
		{"sealed", have.Sealed, false},
		{"persist_mode", have.PersistMode, want.PersistMode},
	} {
		if f.have != f.want {
			errs = append(errs, &DriftError{Stream: want.Name, Field: f.field, Have: f.have, Want: f.want})
		}
	}
	if !slices.Equal(have.Subjects, want.Subjects) {
		errs = append(errs, &DriftError{Stream: want.Name, Field: "subjects", Have: have.Subjects, Want: want.Subjects})
	}
	return errors.Join(errs...)
}

func eventSubject(realm string) string {
	return fmt.Sprintf("lf.event.%02d.%s", envelope.Partition(realm), envelope.RealmToken(realm))
}

func retrySubject(sink, realm string) string {
	return fmt.Sprintf("lf.retry.%s.%02d.%s", envelope.RealmToken(sink), envelope.Partition(realm), envelope.RealmToken(realm))
}

func deadSubject(reason Reason, realm string) string {
	return fmt.Sprintf("lf.dead.%s.%s", envelope.RealmToken(string(reason)), envelope.RealmToken(realm))
}

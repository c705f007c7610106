package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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

var streams = []string{EventStream, RetryStream, DeadStream, ChangeStream, GapStream}

// duplicateWindow is how long the broker remembers a message id. Longer costs
// the broker memory for each message and gains little: the marks are what makes
// a repeated message harmless.
const duplicateWindow = 2 * time.Minute

// DriftError says that a stream or a consumer exists with another setting than configured.
// The setting was not changed: to shrink a stream or to change its subjects may lose
// messages, so a person decides (see UpdateTopology).
type DriftError struct {
	Stream, Field string
	// Consumer is set where the setting is that of a consumer of the stream.
	Consumer   string
	Have, Want any
	// Remedy says what to do; empty where it depends on why the setting differs.
	Remedy string
}

// Missing reports whether there is no such consumer at all.
func (e *DriftError) Missing() bool { return e.Field == fieldMissing }

func (e *DriftError) Error() string {
	of := "stream " + e.Stream
	if e.Consumer != "" {
		of = "consumer " + e.Consumer + " of " + of
	}
	text := fmt.Sprintf("%s: %s is %v on the server, but %v is configured", of, e.Field, e.Have, e.Want)
	if e.Remedy != "" {
		text += ": " + e.Remedy
	}
	return text
}

// EnsureTopology creates the streams that are missing and compares the others
// with the configuration. It applies what loses nothing: larger limits, and no
// compression. It returns a *DriftError for each other setting that differs, joined,
// and at once a *MismatchError where the server is too old and an ErrUnreachable where
// JetStream does not answer. Any number of
// processes may call it at once, also with different limits: the largest wins.
// With SetupVerify it changes nothing, and what is missing or differs is ErrNotSetUp.
func (c *Conn) EnsureTopology(ctx context.Context) error {
	if err := c.checkServer(); err != nil {
		return err
	}
	if c.cfg.Setup == SetupVerify {
		return c.verifyTopology(ctx)
	}
	var errs []error
	for _, want := range c.topology() {
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
func (c *Conn) EnsureChanges(ctx context.Context) error {
	if c.cfg.Setup == SetupVerify {
		return c.verify(ctx, c.changes())
	}
	return c.ensure(ctx, c.changes())
}

// topology are the streams that every feed has.
func (c *Conn) topology() []jetstream.StreamConfig {
	return []jetstream.StreamConfig{c.events(), c.retry(), c.dead(), c.gaps()}
}

// UpdateTopology applies the configuration to the streams there are. Growing is
// safe. A limit below what a stream holds is refused by the broker or lets it
// discard the oldest messages of LF_DEAD, LF_CHANGES and LF_GAPS.
func (c *Conn) UpdateTopology(ctx context.Context) error {
	var errs []error
	for _, want := range c.topology() {
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
// a compressed stream may lose what it has acknowledged (ADR 14).
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
	if err != nil {
		return c.topologyError("ensure", want.Name, err)
	}
	have := s.CachedInfo().Config
	if have, err = c.uncompress(ctx, have); err != nil {
		return err
	}
	if want.AllowAtomicPublish {
		allowed := have.AllowAtomicPublish || c.allowBatches(ctx, have)
		c.batches.Store(allowed)
		have.AllowAtomicPublish = allowed // or raising a limit would turn it off again
	}
	if c.cfg.AllowMismatch {
		want.Replicas = have.Replicas // Durability reports it
	}
	return c.raiseLimits(ctx, want, have)
}

// topologyError tells a broker that does not answer from one that refuses.
func (c *Conn) topologyError(what, name string, err error) error {
	if denied := c.accessError(); denied != nil && errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s stream %s: %w", what, name, denied)
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrNoResponders) {
		return fmt.Errorf("%w at %s: %s stream %s: %w", ErrUnreachable, c.Address(), what, name, err)
	}
	return fmt.Errorf("%s stream %s: %w", what, name, explainLimit(err))
}

// uncompress turns off the compression of a stream that an earlier version created,
// and returns its new configuration. The server keeps the blocks it has compressed
// and reads them as before.
func (c *Conn) uncompress(ctx context.Context, have jetstream.StreamConfig) (jetstream.StreamConfig, error) {
	if have.Compression == jetstream.NoCompression {
		return have, nil
	}
	before := have.Compression
	have.Compression = jetstream.NoCompression
	if _, err := c.js.UpdateStream(ctx, have); err != nil {
		return have, fmt.Errorf("%w; its compression (%s) can lose acknowledged messages: run `%s`",
			c.topologyError("turn off the compression of", have.Name, err), before, uncompressCommand(have.Name))
	}
	c.log.Info("stream compression turned off", telemetry.Stream(have.Name))
	return have, nil
}

func uncompressCommand(name string) string {
	return fmt.Sprintf("nats stream edit %s --compression none", name)
}

// Compressed returns the streams that are compressed; see [Conn.EnsureTopology].
func (c *Conn) Compressed(ctx context.Context) (names []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	for _, name := range streams {
		s, err := c.js.Stream(ctx, name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			return nil, c.topologyError("look up", name, err)
		}
		if s.CachedInfo().Config.Compression != jetstream.NoCompression {
			names = append(names, name)
		}
	}
	return names, nil
}

const (
	// The server has no conditional update: a process that read the limits before
	// another one raised them may write its own, lower ones afterwards. Who raised a
	// limit therefore reads it again after confirmRaise, which is ample for the time
	// between a read and its update, and raises it once more if it was lowered.
	confirmRaise  = 500 * time.Millisecond
	raiseAttempts = 4
)

// raiseLimits applies larger limits than the stream has, if nothing else differs, and
// returns as drift what differs afterwards.
func (c *Conn) raiseLimits(ctx context.Context, want, have jetstream.StreamConfig) error {
	for range raiseAttempts {
		raised, higher := raise(want, have)
		if !higher {
			break
		}
		if err := drift(want, raised); err != nil {
			return err
		}
		if _, err := c.js.UpdateStream(ctx, raised); err != nil {
			return fmt.Errorf("%w; configured is %s, the server has %s: give the servers more storage (max_file_store), or configure what the server has",
				c.topologyError("raise the limits of", want.Name, err), limits(want), limits(have))
		}
		c.log.Info("stream limits raised", telemetry.Stream(want.Name), telemetry.Limits(limits(raised)))
		select {
		case <-ctx.Done():
			return c.topologyError("raise the limits of", want.Name, ctx.Err())
		case <-time.After(confirmRaise):
		}
		s, err := c.js.Stream(ctx, want.Name)
		if err != nil {
			return c.topologyError("look up", want.Name, err)
		}
		have = s.CachedInfo().Config
	}
	return drift(want, have)
}

// raise returns have with the limits of want that are higher. It lowers none.
func raise(want, have jetstream.StreamConfig) (raised jetstream.StreamConfig, higher bool) {
	raised = have
	if higherLimit(want.MaxBytes, have.MaxBytes) {
		raised.MaxBytes, higher = want.MaxBytes, true
	}
	if higherLimit(want.MaxAge, have.MaxAge) {
		raised.MaxAge, higher = want.MaxAge, true
	}
	return raised, higher
}

// higherLimit reports whether limit a is above b; 0 and less is no limit at all.
func higherLimit[T int64 | time.Duration](a, b T) bool {
	return b > 0 && (a <= 0 || a > b)
}

func limits(c jetstream.StreamConfig) string {
	age := "no max_age"
	if c.MaxAge > 0 {
		age = "max_age " + c.MaxAge.String()
	}
	return fmt.Sprintf("max_bytes %d, %s", c.MaxBytes, age)
}

// lowerRemedy says what to do about a limit that is lower than the stream's.
func lowerRemedy(name, field string, have, want any) string {
	setting := map[string]string{
		EventStream + "max_bytes": "events_max_bytes", RetryStream + "max_bytes": "retry_max_bytes",
		DeadStream + "max_bytes": "dead_max_bytes", DeadStream + "max_age": "dead_max_age",
		ChangeStream + "max_bytes": "changes_max_bytes", ChangeStream + "max_age": "changes_max_age",
		ActionStream + "max_bytes": "actions_max_bytes", ActionStream + "max_age": "actions_max_age",
	}[name+field]
	flag := strings.ReplaceAll(field, "_", "-")
	lower := fmt.Sprintf("lower it by hand with `nats stream edit %s --%s %v`, which may drop messages or refuse new ones", name, flag, want)
	if setting == "" {
		return "a limit is never lowered at the start: " + lower
	}
	return fmt.Sprintf("a limit is never lowered at the start: set nats.%s to %v, or %s", setting, have, lower)
}

// allowBatches turns atomic batches on for a stream of an earlier version. It
// changes nothing about the messages; a server that does not know them does without.
func (c *Conn) allowBatches(ctx context.Context, have jetstream.StreamConfig) bool {
	have.AllowAtomicPublish = true
	s, err := c.js.UpdateStream(ctx, have)
	if err == nil && s.CachedInfo().Config.AllowAtomicPublish {
		return true
	}
	c.log.Warn("stream does not support batches; each message is synced to disk separately", telemetry.Stream(have.Name), telemetry.Error(err))
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
			e := &DriftError{Stream: want.Name, Field: f.field, Have: f.have, Want: f.want}
			switch f.field {
			case "max_bytes", "max_age":
				e.Remedy = lowerRemedy(want.Name, f.field, f.have, f.want)
			case "storage", "retention", "persist_mode":
				e.Remedy = fmt.Sprintf("it cannot be changed: once the stream is empty, run `nats stream rm %s` and restart a service, which creates it", want.Name)
			default:
				e.Remedy = fmt.Sprintf("run `nats stream edit %s`", want.Name)
			}
			errs = append(errs, e)
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

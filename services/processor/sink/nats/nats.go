// Package nats is a sink that puts changes on a stream of the broker that
// Ledgerfeed itself uses, for readers that come and go.
//
// # What it guarantees
//
// Write returns nil only after the broker acknowledged every change. The subject
// is lf.change.<realm>.<entity>, so that a reader filters by either; the message
// is one sink.Record as JSON, and its Nats-Msg-Id the idempotency key: the broker
// drops a change that comes again within two minutes, unless it is a replay.
//
// # What it does not do
//
// The stream LF_CHANGES drops its oldest messages when it is full
// (nats.changes_max_bytes, nats.changes_max_age): a reader that stays away for too
// long misses them. It keeps every version, and an older one may stand behind a
// newer one after a crash: readers keep the newest by
// sink.Record.Supersedes.
package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// Options say where to publish. Stream is required; it is not closed with the sink.
type Options struct {
	// Name is the sink's name in the marks; "nats" if empty.
	Name   string
	Stream *stream.Conn
}

// Sink publishes changes. It is safe for concurrent use.
type Sink struct {
	o      Options
	closed atomic.Bool
}

var (
	errClosed = errors.New("nats sink: closed")
	errNoJSON = errors.New("the document is not JSON")
)

// Open makes the stream if it is missing. A stream with other limits than the
// configured ones is a *stream.DriftError.
func Open(ctx context.Context, o Options) (*Sink, error) {
	if o.Stream == nil {
		return nil, errors.New("nats sink: no connection to the broker")
	}
	if o.Name == "" {
		o.Name = "nats"
	}
	if err := o.Stream.EnsureChanges(ctx); err != nil {
		return nil, fmt.Errorf("nats sink: %w", err)
	}
	return &Sink{o: o}, nil
}

// Name is the sink's name in the marks.
func (s *Sink) Name() string { return s.o.Name }

// Close makes further writes fail.
func (s *Sink) Close() error {
	s.closed.Store(true)
	return nil
}

// Write publishes changes and returns when the broker has all of them; a
// *sink.PartialError says which it has not. What is larger than the broker takes
// in one message is refused for good.
func (s *Sink) Write(ctx context.Context, changes []*ledgerfeedv1.Change) error {
	if s.closed.Load() {
		return errClosed
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("publish changes: %w", err)
	}
	errs := make([]error, len(changes))
	var messages []stream.ChangeMessage
	var index []int
	for i, c := range changes {
		r := sink.RecordOf(c)
		data, err := json.Marshal(r)
		if err != nil {
			errs[i] = stream.Permanent(stream.ReasonSinkRefused, errNoJSON)
			continue
		}
		messages = append(messages, stream.ChangeMessage{RealmID: r.Realm, Entity: r.Entity, ID: s.messageID(r), Data: data})
		index = append(index, i)
	}
	if len(messages) > 0 {
		for i, err := range s.o.Stream.PublishChanges(ctx, messages...) {
			if errors.Is(err, stream.ErrTooLarge) {
				err = stream.Permanent(stream.ReasonSinkRefused, err)
			}
			errs[index[i]] = err
		}
	}
	return sink.Partial(errs)
}

// messageID tells replays of a version from the version and from each other: the
// broker would drop them, and a person asked for them.
func (s *Sink) messageID(r sink.Record) string {
	id := r.Key + "/" + s.o.Name
	if r.Learned == sink.Learned(ledgerfeedv1.Source_SOURCE_REPLAY) {
		id += "/replay/" + r.EventID
	}
	return id
}

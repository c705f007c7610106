package stream

import (
	"context"
	"time"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// Reason says why something became a dead letter. It is one token of the
// subject lf.dead.<reason>.<realm>; String is for people.
type Reason string

// The reasons.
const (
	// ReasonUnreadable: a body or an item that verified but cannot be parsed.
	ReasonUnreadable Reason = "unreadable"
	// ReasonInvalidEnvelope: bytes on a stream that are no envelope.
	ReasonInvalidEnvelope Reason = "invalid-envelope"
	// ReasonRealmNotConnected: events of a realm nobody ever connected.
	ReasonRealmNotConnected Reason = "realm-not-connected"
	// ReasonUnknownEntity: an entity the API cannot be asked for.
	ReasonUnknownEntity Reason = "unknown-entity"
	// ReasonPoison: a record Intuit's API fails on (4002).
	ReasonPoison Reason = "poison-record"
	// ReasonNotFound: the API does not know the record, and nothing says it was deleted.
	ReasonNotFound Reason = "not-found"
	// ReasonRefused: the API refuses the request for good.
	ReasonRefused Reason = "refused-by-quickbooks"
	// ReasonSinkRefused: the sink will never take the change.
	ReasonSinkRefused Reason = "sink-refused"
)

// DeadLetter is a message or an event that cannot be delivered, kept so that a
// person can look at it and replay it.
type DeadLetter struct {
	// Seq is its number on the stream; set by DeadLetters, ignored by PublishDead.
	Seq uint64
	// ID tells a repeated dead letter from a new one: the broker drops a second
	// one with the same ID within two minutes. Empty means that the content is
	// the identity: everything but Attempts, FirstSeen and At.
	ID     string
	Reason Reason
	// Detail says more than the reason, for people. It must hold no secret.
	Detail  string
	RealmID string
	App     string
	// Sink is the one that refused; empty if it is not about a sink.
	Sink string
	// Body is what Intuit sent, byte by byte; empty if Envelope says it all.
	Body []byte
	// Envelope holds the events concerned; nil if they could not be read.
	Envelope  *ledgerfeedv1.Envelope
	Attempts  int
	FirstSeen time.Time
	At        time.Time
}

// PublishDead stores d and returns nil only when the broker acknowledged it.
func (c *Conn) PublishDead(ctx context.Context, d DeadLetter) error { return ErrNotDurable }

// DeadLetters returns the newest dead letters, newest first, at most limit.
func (c *Conn) DeadLetters(ctx context.Context, limit int) ([]DeadLetter, error) { return nil, nil }

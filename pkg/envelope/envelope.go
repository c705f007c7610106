// Package envelope makes, identifies, encodes and decodes the one message on
// the stream: the events of one realm out of one request or one scan.
//
// It guarantees that the same input makes the same envelopes with the same ids
// and bytes, on every replica and in every process, so that a request Intuit
// sends twice is stored once, if it gives its events ids: two changes of one second
// are the same bytes without. Events keep their order within a realm, and no
// event is left out: what does not fit into one envelope goes into the next
// chunk. Decode refuses what a consumer could not act on and keeps fields it
// does not know.
//
// It does not talk to the stream, does not look at entity data and does not
// judge whether an entity is known: that is the consumer's.
package envelope

import (
	"crypto/sha256"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// MaxEvents and MaxBytes bound one envelope; what is beyond goes into the next
// chunk. A single event larger than MaxBytes gets an envelope of its own.
const (
	MaxEvents = 500
	MaxBytes  = 256 << 10
)

// Meta is what the envelopes of one request have in common.
type Meta struct {
	// App is the Intuit app whose verifier token matched.
	App string
	// IntuitTID is Intuit's trace id (the intuit-t-id header), for support cases.
	IntuitTID string
	// Traceparent is the W3C trace context of the request.
	Traceparent string
	// ReceivedAt is when the request came in. It is part of the id only of events to which
	// Intuit has given none: any other body received twice has the same envelopes.
	ReceivedAt time.Time
	// MaxBytes bounds an envelope where the broker takes less than the package's MaxBytes;
	// 0 is that. It is part of the ids, for the chunks hold other events then.
	MaxBytes int
}

func (m Meta) maxBytes() int {
	if m.MaxBytes > 0 {
		return min(m.MaxBytes, MaxBytes)
	}
	return MaxBytes
}

// FromNotification makes the envelopes of a verified webhook body: at least one
// per realm, in the order the realms first appear in it. The ids derive from
// body, realm and chunk. Where an event has no id of Intuit's (the legacy format, whose
// times have whole seconds) equal bytes may be another change: there the time of receipt
// is part of the id, and a request that Intuit sends again is stored again, which costs a
// read at most. Rejected items are not in it; they are the caller's to
// dead-letter. Every event needs an entity and an id, as webhook.Parse ensures:
// Encode refuses an envelope with one that lacks them.
func FromNotification(body []byte, n webhook.Notification, m Meta) []*ledgerfeedv1.Envelope {
	sum := sha256.Sum256(body)
	unnamed := !m.ReceivedAt.IsZero() && slices.ContainsFunc(n.Events, webhook.Event.Derived)
	var out []*ledgerfeedv1.Envelope
	for _, realm := range byRealm(n.Events) {
		// The body stands for the events: one hash of it instead of one of each.
		id := func(_ []*ledgerfeedv1.Event, chunk int) string {
			i := newIdentity("webhook").bytes(sum[:]).text(realm.id).number(chunk)
			if m.maxBytes() < MaxBytes {
				i = i.number(m.MaxBytes)
			}
			if unnamed {
				i = i.number(int(m.ReceivedAt.UnixNano()))
			}
			return i.sum()
		}
		out = append(out, build(ledgerfeedv1.Source_SOURCE_WEBHOOK, realm.id, realm.events, m, id)...)
	}
	return out
}

// New makes the envelopes of a scan or a replay. The seed says what they are of
// (a scan's id, a person's request); the ids derive from source, realm, seed,
// chunk and the events themselves, so that a seed used twice by mistake cannot
// make the broker drop other events as duplicates. No events make no envelope.
//
// The events are not copied.
func New(source ledgerfeedv1.Source, realm, seed string, events []*ledgerfeedv1.Event, m Meta) []*ledgerfeedv1.Envelope {
	id := func(events []*ledgerfeedv1.Event, chunk int) string {
		h := newIdentity("scan").number(int(source)).text(realm).text(seed).number(chunk)
		for _, e := range events {
			h = h.text(e.GetId()).text(e.GetEntity()).text(e.GetEntityId()).number(int(e.GetOperation()))
			h = h.number(int(e.GetVersion())).text(e.GetMergedId()).text(e.GetOperationName()).time(e.GetOccurredAt())
		}
		return h.sum()
	}
	return build(source, realm, events, m, id)
}

func build(source ledgerfeedv1.Source, realm string, events []*ledgerfeedv1.Event, m Meta, id func([]*ledgerfeedv1.Event, int) string) []*ledgerfeedv1.Envelope {
	parts := chunks(events, m.maxBytes()-headroom)
	out := make([]*ledgerfeedv1.Envelope, len(parts))
	for chunk, part := range parts {
		e := &ledgerfeedv1.Envelope{
			Id:          id(part, chunk),
			Source:      source,
			App:         header(m.App),
			RealmId:     realm,
			IntuitTid:   header(m.IntuitTID),
			Traceparent: header(m.Traceparent),
			Events:      part,
		}
		if !m.ReceivedAt.IsZero() {
			e.ReceivedAt = timestamppb.New(m.ReceivedAt)
		}
		out[chunk] = e
	}
	return out
}

// headroom is kept free in every chunk for what surrounds the events: id,
// realm, app and trace headers.
const headroom = 4 << 10

func chunks(events []*ledgerfeedv1.Event, most int) [][]*ledgerfeedv1.Event {
	var out [][]*ledgerfeedv1.Event
	start, size := 0, 0
	for i, e := range events {
		n := proto.Size(e) + 8
		if i > start && (i-start == MaxEvents || size+n > most) {
			out = append(out, events[start:i:i])
			start, size = i, 0
		}
		size += n
	}
	if start < len(events) {
		out = append(out, events[start:])
	}
	return out
}

// header makes a request header fit for protobuf, which refuses a string that is
// not UTF-8 and would so refuse the events beside it. Nobody needs a trace id of
// more than a few dozen bytes.
func header(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), 256)], "\uFFFD")
}

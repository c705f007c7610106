package stream

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
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
	// ReasonUnknownSink: an envelope for a sink that no processor writes to.
	ReasonUnknownSink Reason = "unknown-sink"
	// ReasonForeignApp: the event is signed by another app than the one the realm is
	// connected to.
	ReasonForeignApp Reason = "foreign-app"
	// ReasonRetryFull: the sink was down, its retry queue full, and no scan would find
	// the change.
	ReasonRetryFull Reason = "retry-queue-full"
)

// String is the reason in words.
func (r Reason) String() string { return strings.ReplaceAll(string(r), "-", " ") }

// DeadLetter is a message or an event that cannot be delivered, kept so that a
// person can look at it and replay it.
type DeadLetter struct {
	// Seq is its number on the stream; PublishDead ignores it.
	Seq uint64
	// ID says which message it is of, so that the same events replayed and dead
	// again are another letter. May be empty. The broker drops a second letter
	// within two minutes only if ID, Reason, RealmID, App, Sink, Body and Envelope
	// are all the same.
	ID     string
	Reason Reason
	// Detail says more than the reason, for people: it is the last error. It must
	// hold no secret.
	Detail string
	// FirstError is why the first attempt failed, as far as whoever gave up knows:
	// a processor that has started since does not. It must hold no secret.
	FirstError string
	RealmID    string
	App        string
	// Sink is the one that it is about; empty if it is about none, or about all.
	Sink string
	// Body is what Intuit sent, byte by byte; empty if Envelope says it all.
	Body []byte
	// Envelope holds the events concerned; nil if they could not be read.
	Envelope *ledgerfeedv1.Envelope
	// Attempts are all that were made, also before an earlier dead letter of the
	// same events was requeued.
	Attempts  int
	FirstSeen time.Time
	At        time.Time
}

// A dead letter is stored as its body with the rest in headers, so that the
// body stays byte exact and the usual tools of NATS show both. A letter without
// a body has its envelope there.
const (
	headerID         = "Ledgerfeed-Id"
	headerReason     = "Ledgerfeed-Reason"
	headerDetail     = "Ledgerfeed-Detail"
	headerFirstError = "Ledgerfeed-First-Error"
	headerRealm      = "Ledgerfeed-Realm"
	headerApp        = "Ledgerfeed-App"
	headerSink       = "Ledgerfeed-Sink"
	headerAttempts   = "Ledgerfeed-Attempts"
	headerFirstSeen  = "Ledgerfeed-First-Seen"
	headerAt         = "Ledgerfeed-At"
	headerContent    = "Ledgerfeed-Content"  // what the data is
	headerEnvelope   = "Ledgerfeed-Envelope" // base64, if the data is the body

	contentBody     = "body"
	contentEnvelope = "envelope"

	// headerReserve is room for the headers of a message beside the largest body.
	headerReserve = 64 << 10
	maxDetail     = 4 << 10
	maxName       = 1 << 10
)

// PublishDead stores d and returns nil only when the broker acknowledged it;
// otherwise ErrNotDurable. A body above MaxBody is ErrTooLarge. See StoreDead for what
// becomes of it where there is no room.
func (c *Conn) PublishDead(ctx context.Context, d DeadLetter) error {
	_, err := c.StoreDead(ctx, d)
	return err
}

// Dead moves m to the dead letters: it stores d, waits for the broker's
// acknowledgement, and only then removes m. A crash in between repeats the dead
// letter, which the broker drops as a duplicate, and never loses it. Empty
// fields of d are filled from m. After an error m is not settled: Nak it.
func (c *Conn) Dead(ctx context.Context, m *Message, d DeadLetter) error {
	if d.ID == "" {
		// Not the content: the same content may be replayed and die again.
		d.ID = m.ID() + "/" + string(d.Reason) + "/" + d.Sink
	}
	if d.Envelope == nil && len(d.Body) == 0 {
		if env, err := m.Envelope(); err == nil {
			d.Envelope = env
		} else {
			d.Body = m.Data()
		}
	}
	if d.RealmID == "" {
		d.RealmID = d.Envelope.GetRealmId()
	}
	if d.App == "" {
		d.App = d.Envelope.GetApp()
	}
	if d.Sink == "" {
		d.Sink = d.Envelope.GetSink()
	}
	if d.Attempts == 0 {
		d.Attempts = m.Attempts()
	}
	if d.FirstSeen.IsZero() {
		d.FirstSeen = m.FirstSeen()
	}
	if d.FirstError == "" {
		d.FirstError = m.History().FirstError
	}
	if d.FirstError == "" && d.Attempts == 1 {
		d.FirstError = d.Detail
	}
	if d.At.IsZero() {
		d.At = time.Now()
	}
	if err := c.PublishDead(ctx, d); err != nil {
		return err
	}
	// After the PubAck: the other order loses the message in a crash (I2).
	return m.Term(d.Reason.String())
}

func encodeDead(d DeadLetter) (*nats.Msg, error) {
	var env []byte
	if d.Envelope != nil {
		var err error
		if env, err = envelope.Encode(d.Envelope); err != nil {
			return nil, err
		}
	}
	m := message(DeadStream, deadSubject(d.Reason, d.RealmID), deadID(d, env), d.Body)
	set := func(key, value string) {
		if value != "" {
			m.Header.Set(key, headerText(value))
		}
	}
	set(headerID, cut(d.ID, maxName))
	set(headerReason, string(d.Reason))
	set(headerDetail, cut(d.Detail, maxDetail))
	set(headerFirstError, cut(d.FirstError, maxDetail))
	set(headerRealm, cut(d.RealmID, maxName))
	set(headerApp, cut(d.App, maxName))
	set(headerSink, cut(d.Sink, maxName))
	set(headerFirstSeen, timeText(d.FirstSeen))
	set(headerAt, timeText(d.At))
	if d.Attempts > 0 {
		set(headerAttempts, strconv.Itoa(d.Attempts))
	}
	switch {
	case len(d.Body) == 0 && env != nil:
		m.Data = env
		set(headerContent, contentEnvelope)
	default:
		set(headerContent, contentBody)
		set(headerEnvelope, base64.StdEncoding.EncodeToString(env))
	}
	return m, nil
}

// deadID takes in the content whatever the caller's ID: two letters of one
// message that share it by mistake must not pass for one.
func deadID(d DeadLetter, env []byte) string {
	h := sha256.New()
	for _, part := range []string{d.ID, string(d.Reason), d.RealmID, d.App, d.Sink, string(d.Body), string(env)} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// decodeDead never fails: a letter somebody else put there is shown as it is.
func decodeDead(seq uint64, stored time.Time, h nats.Header, data []byte) DeadLetter {
	get := func(key string) string { return headerValue(h.Get(key)) }
	past := historyOf(h)
	d := DeadLetter{
		Seq:        seq,
		ID:         get(headerID),
		Reason:     Reason(get(headerReason)),
		Detail:     get(headerDetail),
		FirstError: past.FirstError,
		RealmID:    get(headerRealm),
		App:        get(headerApp),
		Sink:       get(headerSink),
		Attempts:   past.Attempts,
		FirstSeen:  past.FirstSeen,
		At:         parseTime(get(headerAt)),
	}
	if d.At.IsZero() {
		d.At = stored
	}
	env := data
	if get(headerContent) != contentEnvelope {
		d.Body = data
		env, _ = base64.StdEncoding.DecodeString(get(headerEnvelope))
	}
	if e, err := envelope.Decode(env); err == nil {
		d.Envelope = e
	} else if d.Body == nil {
		d.Body = data
	}
	return d
}

// headerText makes any string fit for a header line, which can hold neither line
// breaks nor spaces at its ends: such a string is written as a Go literal.
func headerText(s string) string {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return strconv.QuoteToASCII(s)
		}
	}
	if strings.HasPrefix(s, `"`) || strings.TrimSpace(s) != s {
		return strconv.QuoteToASCII(s)
	}
	return s
}

func headerValue(s string) string {
	if strings.HasPrefix(s, `"`) {
		if u, err := strconv.Unquote(s); err == nil {
			return u
		}
	}
	return s
}

func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n-3] + "..."
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func parseTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}
	}
	return t
}

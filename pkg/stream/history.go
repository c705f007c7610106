package stream

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// History is what happened to events before the message they are in now: the
// broker counts the deliveries of one message, and events go from the event
// stream to a retry queue, to the dead letters and back. The zero History is none.
type History struct {
	// Attempts were made before this message.
	Attempts int
	// FirstSeen is when the first message with the events was stored.
	FirstSeen time.Time
	// FirstError is why the first attempt failed; it must hold no secret.
	FirstError string
}

// History is what the message was stored with.
func (m *Message) History() History { return historyOf(m.msg.Headers()) }

// Attempts is how often its events were tried, this time and the messages before
// it included.
func (m *Message) Attempts() int { return m.History().Attempts + m.Delivered() }

// FirstSeen is when the first message with its events was stored.
func (m *Message) FirstSeen() time.Time {
	if t := m.History().FirstSeen; !t.IsZero() {
		return t
	}
	return m.Published()
}

func historyOf(header nats.Header) History {
	h := History{
		FirstSeen:  parseTime(headerValue(header.Get(headerFirstSeen))),
		FirstError: headerValue(header.Get(headerFirstError)),
	}
	h.Attempts, _ = strconv.Atoi(header.Get(headerAttempts))
	return h
}

// put stores h in the headers of m.
func (h History) put(m *nats.Msg) *nats.Msg {
	if h.Attempts > 0 {
		m.Header.Set(headerAttempts, strconv.Itoa(h.Attempts))
	}
	if !h.FirstSeen.IsZero() {
		m.Header.Set(headerFirstSeen, timeText(h.FirstSeen))
	}
	if h.FirstError != "" {
		m.Header.Set(headerFirstError, headerText(cut(h.FirstError, maxDetail)))
	}
	return m
}

// PublishRetryWith is PublishRetry of events that were tried before.
func (c *Conn) PublishRetryWith(ctx context.Context, sink string, env *ledgerfeedv1.Envelope, h History) error {
	forSink := proto.Clone(env).(*ledgerfeedv1.Envelope)
	forSink.Sink = sink
	data, err := envelope.Encode(forSink)
	if err != nil {
		return fmt.Errorf("publish envelope %q for sink %s: %w", env.GetId(), sink, err)
	}
	sum := sha256.Sum256(data)
	id := env.GetId() + "/" + hex.EncodeToString(sum[:8])
	return c.publishRetry(ctx, h.put(traced(message(RetryStream, retrySubject(sink, env.GetRealmId()), id, data), env)))
}

// waitingSink is in the subjects of Waiting: no sink is called that.
const waitingSink = ""

// PublishWaiting puts a copy of m, whose envelope is env, on the queue Waiting; m is
// the caller's to ack. The broker drops a second copy of one message.
func (c *Conn) PublishWaiting(ctx context.Context, m *Message, env *ledgerfeedv1.Envelope, h History) error {
	aside := message(RetryStream, retrySubject(waitingSink, env.GetRealmId()), m.ID()+"/waiting", m.Data())
	return c.publishRetry(ctx, h.put(traced(aside, env)))
}

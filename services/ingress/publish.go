package ingress

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// Publisher is where notifications go. Both methods return nil only after the
// broker's acknowledgement of all they were given.
type Publisher interface {
	Publish(ctx context.Context, envs ...*ledgerfeedv1.Envelope) error
	PublishDead(ctx context.Context, letter stream.DeadLetter) error
}

const (
	// maxItems is how many unreadable items of a body become dead letters of
	// their own; with more, the whole body is one. Thousands of acknowledgements
	// would not fit into the budget, and Intuit would send that body for ever.
	maxItems = 16
	// maxPart is how much of a body goes into one dead letter when the broker
	// refuses the whole: by default NATS takes messages of up to 1 MiB.
	maxPart = 900 << 10
	// envelopeHeaders is room for the headers of the message of an envelope.
	envelopeHeaders = 4 << 10
)

// maxPayload is the largest message that the broker takes; 0 if it is not known.
func (s *Server) maxPayload() int {
	if p, ok := s.publisher.(interface{ MaxPayload() int }); ok {
		return p.MaxPayload()
	}
	return 0
}

// notification is a verified body on its way to the stream.
type notification struct {
	app  *app
	body []byte
	meta envelope.Meta
}

// tally is what was stored of a notification.
type tally struct{ events, dead int }

// publish stores all that is in n and returns nil only when the broker has
// acknowledged it (I1). After an error Intuit sends the body again, and the ids
// make the broker drop what it has already.
func (s *Server) publish(ctx context.Context, n notification) (tally, error) {
	most := s.maxPayload()
	if most > 0 && most-envelopeHeaders < envelope.MaxBytes {
		n.meta.MaxBytes = most - envelopeHeaders
	}
	envs, rest, err := envelopes(n)
	if err != nil {
		dead, err := s.bury(ctx, n, "", n.body, err.Error())
		return tally{dead: dead}, err
	}
	if sabotage.On(sabotage.AnswerBeforeAck) {
		go func() { _ = s.publishTraced(context.WithoutCancel(ctx), envs) }()
		return tally{events: rest.events}, nil
	}
	if len(envs) > 0 {
		// Neither the events nor the envelopes are touched after this: what waits for
		// the broker, thousands of them at times, holds only what it has sent.
		err := s.publishTraced(ctx, envs)
		var invalid *envelope.InvalidError
		if errors.As(err, &invalid) || errors.Is(err, stream.ErrTooLarge) {
			// Sent again it would fail again and hold back every later event.
			why := err.Error()
			if errors.Is(err, stream.ErrTooLarge) {
				why = fmt.Sprintf("an event is larger than the broker takes: raise max_payload, which is %d bytes, and requeue: %s", most, why)
			}
			dead, err := s.bury(ctx, n, "", n.body, why)
			return tally{dead: dead}, err
		}
		if err != nil {
			return tally{}, err
		}
	}
	dead, err := s.buryItems(ctx, n, rest)
	return tally{events: rest.events, dead: dead}, err
}

// remainder is what is of interest of a body once its envelopes are made.
type remainder struct {
	events   int
	rejected []webhook.Rejected
	unlisted int // rejected too, but not kept
}

func envelopes(n notification) ([]*ledgerfeedv1.Envelope, remainder, error) {
	content, err := parse(n.body)
	if err != nil {
		return nil, remainder{}, err
	}
	rest := remainder{events: len(content.Events), rejected: content.Rejected, unlisted: content.Unlisted}
	return envelope.FromNotification(n.body, content, n.meta), rest, nil
}

// buryItems stores the items that could not be read.
func (s *Server) buryItems(ctx context.Context, n notification, rest remainder) (dead int, err error) {
	if items := rest.rejected; len(items) > maxItems {
		return s.bury(ctx, n, "", n.body, fmt.Sprintf("%d items cannot be read; the first: %s", len(items)+rest.unlisted, items[0].Reason))
	}
	for _, item := range rest.rejected {
		letters, err := s.bury(ctx, n, item.RealmID, item.Raw, item.Reason)
		if err != nil {
			return 0, err
		}
		dead += letters
	}
	return dead, nil
}

// bury stores raw bytes as a dead letter, or as several if the broker takes no
// message of that size, and returns how many.
func (s *Server) bury(ctx context.Context, n notification, realm string, raw []byte, why string) (letters int, err error) {
	letter := stream.DeadLetter{
		Reason: stream.ReasonUnreadable, Detail: why, RealmID: realm, App: n.app.name, Body: raw,
		Attempts: 1, FirstSeen: n.meta.ReceivedAt, At: n.meta.ReceivedAt,
	}
	err = s.publisher.PublishDead(ctx, letter)
	part := maxPart
	if most := s.maxPayload(); most > 0 {
		part = min(part, most/2) // the rest is for the headers
	}
	if !errors.Is(err, stream.ErrTooLarge) || len(raw) <= part {
		return 1, err
	}
	parts := (len(raw) + part - 1) / part
	whole := sha256.Sum256(raw)
	for i := range parts {
		// Two parts may be the same bytes: without an id the broker drops one.
		letter.ID = fmt.Sprintf("%x/%d", whole[:16], i+1)
		letter.Body = raw[i*part : min((i+1)*part, len(raw))]
		letter.Detail = fmt.Sprintf("part %d of %d: %s", i+1, parts, why)
		if err := s.publisher.PublishDead(ctx, letter); err != nil {
			return 0, err
		}
	}
	return parts, nil
}

// parse is webhook.Parse with a net: were it to panic, Intuit would send that
// body for ever and hold back everything behind it.
func parse(body []byte) (n webhook.Notification, err error) {
	defer func() {
		if p := recover(); p != nil {
			n, err = webhook.Notification{}, errors.New("the parser crashed on the body")
		}
	}()
	return webhook.Parse(body)
}

package chaos

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/faultproxy"
	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// acks are the messages that the broker has acknowledged to an ingress, as its
// bytes on the wire say.
type acks struct {
	journal *journal

	mu    sync.Mutex // guards the rest
	at    map[string]time.Time
	count int
}

func newAcks(j *journal) *acks { return &acks{journal: j, at: map[string]time.Time{}} }

func (a *acks) acked(id string) {
	now := time.Now()
	a.mu.Lock()
	if _, ok := a.at[id]; !ok {
		a.at[id] = now
	}
	a.count++
	a.mu.Unlock()
	a.journal.write(struct {
		At time.Time `json:"at"`
		ID string    `json:"id"`
	}{now.UTC(), id})
}

// before reports whether the message was acknowledged by then.
func (a *acks) before(id string, t time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	at, ok := a.at[id]
	return ok && !at.After(t)
}

// contentName is a name of an envelope by its events alone. The id of one whose events
// have none depends on when an ingress has received it.
func contentName(env *ledgerfeedv1.Envelope) string {
	var b strings.Builder
	b.WriteString(env.GetRealmId())
	for _, e := range env.GetEvents() {
		fmt.Fprintf(&b, "|%s %s %s %d", e.GetEntity(), e.GetEntityId(), e.GetOperation(), e.GetOccurredAt().AsTime().UnixNano())
	}
	return b.String()
}

// natsTap reads NATS's protocol as it passes: who publishes what, and which
// PubAck answers it.
type natsTap struct {
	acks *acks

	mu      sync.Mutex // guards replies: the two directions are two goroutines
	replies map[string][]string
	up      splitter
	down    splitter
}

func (a *acks) tap() faultproxy.Tap {
	t := &natsTap{acks: a, replies: map[string][]string{}}
	t.up.take, t.down.take = t.published, t.received
	return t
}

// Client hears what is published.
func (t *natsTap) Client(data []byte) { t.up.feed(data) }

// Server hears how that is answered.
func (t *natsTap) Server(data []byte) { t.down.feed(data) }

const msgID = "nats-msg-id"

// published is HPUB subject reply headers total.
func (t *natsTap) published(words []string, payload []byte) {
	if !strings.EqualFold(words[0], "HPUB") || len(words) != 5 {
		return
	}
	headers, err := strconv.Atoi(words[3])
	if err != nil || headers > len(payload) {
		return
	}
	for line := range strings.SplitSeq(string(payload[:headers]), "\r\n") {
		name, value, ok := strings.Cut(line, ":")
		if ok && strings.EqualFold(strings.TrimSpace(name), msgID) {
			names := []string{strings.TrimSpace(value)}
			if env, err := envelope.Decode(payload[headers:]); err == nil {
				names = append(names, contentName(env))
			}
			t.mu.Lock()
			t.replies[words[2]] = names
			t.mu.Unlock()
		}
	}
}

// received is MSG subject sid [reply] total, or HMSG with headers.
func (t *natsTap) received(words []string, payload []byte) {
	if len(words) < 4 {
		return
	}
	t.mu.Lock()
	names, ok := t.replies[words[1]]
	delete(t.replies, words[1])
	t.mu.Unlock()
	if !ok {
		return
	}
	var ack struct {
		Stream string          `json:"stream"`
		Seq    uint64          `json:"seq"`
		Error  json.RawMessage `json:"error"`
	}
	if json.Unmarshal(payload, &ack) == nil && ack.Stream != "" && ack.Seq > 0 && len(ack.Error) == 0 {
		for _, id := range names {
			t.acks.acked(id)
		}
	}
}

// splitter cuts one direction of NATS's protocol into messages. Bytes that are
// none silence it for the rest of the connection.
type splitter struct {
	take func(words []string, payload []byte)
	buf  []byte
	lost bool
}

const maxLine = 16 << 10

func (s *splitter) feed(data []byte) {
	if s.lost {
		return
	}
	s.buf = append(s.buf, data...)
	for {
		end := bytes.Index(s.buf, []byte("\r\n"))
		if end < 0 {
			s.lost = len(s.buf) > maxLine
			return
		}
		words := strings.Fields(string(s.buf[:end]))
		size := 0
		if len(words) > 0 && carries(words[0]) {
			n, err := strconv.Atoi(words[len(words)-1])
			if err != nil || n < 0 {
				s.lost = true
				return
			}
			size = n + 2
		}
		if len(s.buf) < end+2+size {
			return
		}
		if size > 0 {
			s.take(words, s.buf[end+2:end+size])
		}
		s.buf = append(s.buf[:0], s.buf[end+2+size:]...)
	}
}

// carries reports whether a line of that verb has a payload behind it.
func carries(verb string) bool {
	switch strings.ToUpper(verb) {
	case "PUB", "HPUB", "MSG", "HMSG":
		return true
	}
	return false
}

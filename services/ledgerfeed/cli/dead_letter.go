package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// letter is a dead letter as --json prints it.
type letter struct {
	Seq        uint64        `json:"seq"`
	At         time.Time     `json:"at"`
	FirstSeen  *time.Time    `json:"first_seen,omitempty"`
	Reason     stream.Reason `json:"reason"`
	Realm      string        `json:"realm,omitempty"`
	App        string        `json:"app,omitempty"`
	Sink       string        `json:"sink,omitempty"`
	Attempts   int           `json:"attempts"`
	FirstError string        `json:"first_error,omitempty"`
	LastError  string        `json:"last_error,omitempty"`
	Message    string        `json:"message,omitempty"`
	// Bytes is the size of what was kept raw.
	Bytes int `json:"bytes"`
	// Body is the raw bytes if they are text, BodyBase64 if not; neither if the
	// envelope is all there is. Both are for show alone.
	Body       string          `json:"body,omitempty"`
	BodyBase64 []byte          `json:"body_base64,omitempty"`
	Envelope   json.RawMessage `json:"envelope,omitempty"`

	events []*ledgerfeedv1.Event
}

// summaryOf is d without its bytes.
func summaryOf(d stream.DeadLetter) letter {
	l := letter{
		Seq: d.Seq, At: d.At.UTC(), Reason: d.Reason, Realm: d.RealmID, App: d.App, Sink: d.Sink, Attempts: d.Attempts,
		FirstError: d.FirstError, LastError: d.Detail, Message: d.ID, Bytes: len(d.Body), events: d.Envelope.GetEvents(),
	}
	if !d.FirstSeen.IsZero() {
		seen := d.FirstSeen.UTC()
		l.FirstSeen = &seen
	}
	if d.Envelope != nil {
		// An envelope always encodes; should one not, the rest is worth showing.
		l.Envelope, _ = protojson.MarshalOptions{UseProtoNames: true}.Marshal(d.Envelope)
	}
	return l
}

// letterOf is all of d.
func letterOf(d stream.DeadLetter) letter {
	l := summaryOf(d)
	if printable(d.Body) {
		l.Body = string(d.Body)
	} else {
		l.BodyBase64 = d.Body
	}
	return l
}

// record names what the letter is about in a word.
func (l letter) record() string {
	if len(l.events) == 0 {
		return ""
	}
	e := l.events[0]
	name := e.GetEntity() + "/" + e.GetEntityId()
	if more := len(l.events) - 1; more > 0 {
		name += fmt.Sprintf(" (+%d)", more)
	}
	return name
}

// printable reports whether b is text that a terminal shows as it is.
func printable(b []byte) bool {
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 || !unicode.IsPrint(r) && r != '\n' && r != '\r' && r != '\t' {
			return false
		}
		b = b[n:]
	}
	return true
}

// plain takes out of s what could move a terminal's cursor: some of it comes from
// bodies and from servers.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) || r == '\n' {
			return r
		}
		return '\uFFFD'
	}, s)
}

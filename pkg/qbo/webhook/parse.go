package webhook

import (
	"bytes"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// Parse reads the body of a notification in either format. The error is always
// a *ParseError: the body is not JSON, or of neither format. A body without
// events (an empty array) is no error.
func Parse(body []byte) (Notification, error) {
	body = bytes.TrimSpace(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")))
	if len(body) == 0 {
		return Notification{}, &ParseError{Reason: "the body is empty"}
	}
	r := newReader(body)
	known := r.body()
	if r.end(); r.err != nil {
		return Notification{}, &ParseError{Reason: "the body is not JSON", Err: r.err}
	}
	if !known {
		return Notification{}, &ParseError{Reason: "the body is neither CloudEvents nor eventNotifications"}
	}
	return r.n, nil
}

// reader reads one body, in one pass where it is CloudEvents.
type reader struct {
	scanner
	texts texts
	n     Notification
}

// An event is some 300 bytes of a body, a third of it ids and names. More room
// than for maxEvents is taken when the events are there.
const (
	eventSize = 256
	maxEvents = 64
)

// maxRejected bounds what a body may cost: of 8 MiB it could be millions of
// items of one digit each, and every one takes some sixty bytes.
const maxRejected = 10_000

func newReader(body []byte) *reader {
	r := &reader{scanner: scanner{text: body}, n: Notification{Format: CloudEvents}}
	r.texts.reserve(len(body) / 3)
	return r
}

// body reads the outermost value and says whether it is of a known format.
func (r *reader) body() (known bool) {
	switch r.peek() {
	case '[':
		for r.open(); r.more(']'); {
			r.item()
		}
		return true
	case '{':
		return r.item()
	}
	r.value()
	return false
}

// item gathers the fields of one event and the first thing wrong with them.
type item struct {
	event     Event
	operation string
	timed     bool // a time was read
	wrong     string
}

func (it *item) reject(reason string) {
	if it.wrong == "" {
		it.wrong = reason
	}
}

// need takes a field that the event depends on. A key given twice passes only
// with the same value: to guess which one counts could lose the other.
func (r *reader) need(it *item, field *string, name string, v value) {
	text, ok := v.scalar()
	switch {
	case !ok:
		it.reject(name + " is neither a string nor an integer")
	case len(text) == 0:
	case *field == "":
		*field = r.texts.keep(text)
	case *field != string(text):
		it.reject(name + " is given twice with different values")
	}
}

// hint takes a field the event can do without: an odd one counts as missing.
func (r *reader) hint(field *string, v value) {
	if text, ok := v.scalar(); ok && len(text) > 0 && *field == "" {
		*field = r.texts.keep(text)
	}
}

// add files the item as an event, or as rejected with its raw bytes.
func (r *reader) add(it *item, raw value) {
	e := &it.event
	it.require(e.RealmID, "realm id")
	it.require(e.Entity, "entity name")
	it.require(e.EntityID, "entity id")
	it.plain(it.operation, "operation")
	if it.wrong != "" {
		r.reject(raw, e.RealmID, it.wrong)
		return
	}
	e.Operation, e.OperationName = operationOf(it.operation)
	if e.Operation == ledgerfeedv1.Operation_OPERATION_MERGE {
		e.MergedID = r.mergedID(raw, e.EntityID)
	}
	if e.ID == "" || problem(e.ID) != "" {
		e.ID = r.derivedID(e)
	}
	if r.n.Events == nil {
		r.n.Events = make([]Event, 0, min(len(r.text)/eventSize+1, maxEvents))
	}
	r.n.Events = append(r.n.Events, *e)
}

func (r *reader) reject(raw value, realm, reason string) {
	if problem(realm) != "" {
		realm = ""
	}
	if len(r.n.Rejected) == maxRejected {
		r.n.Unlisted++
		return
	}
	r.n.Rejected = append(r.n.Rejected, Rejected{RealmID: realm, Raw: bytes.Clone(raw), Reason: reason})
}

func (it *item) require(text, name string) {
	if text == "" {
		it.reject(name + " is missing")
	}
	it.plain(text, name)
}

func (it *item) plain(text, name string) {
	if what := problem(text); what != "" {
		it.reject(name + " " + what)
	}
}

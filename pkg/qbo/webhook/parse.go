package webhook

import (
	"bytes"
	"encoding/json"
	"strings"
)

// Parse reads the body of a notification in either format. The error is always
// a *ParseError: the body is not JSON, nested deeper than 10,000 levels, or of
// neither format. A body without events (an empty array) is no error.
func Parse(body []byte) (Notification, error) {
	body = bytes.TrimSpace(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")))
	if len(body) == 0 {
		return Notification{}, &ParseError{Reason: "the body is empty"}
	}
	if !json.Valid(body) {
		var discard json.RawMessage
		return Notification{}, &ParseError{Reason: "the body is not JSON", Err: json.Unmarshal(body, &discard)}
	}
	root := value(body)
	n := Notification{Format: CloudEvents}
	switch {
	case root.isLegacy():
		n.Format = Legacy
		n.legacy(root)
	case root.kind() == '[':
		for item := range root.list() {
			if item.isLegacy() {
				n.Format = Legacy
				n.legacy(item)
				continue
			}
			n.cloudEvent(item)
		}
	case root.isCloudEvent():
		n.cloudEvent(root)
	default:
		return Notification{}, &ParseError{Reason: "the body is neither CloudEvents nor eventNotifications"}
	}
	return n, nil
}

func (v value) isLegacy() bool     { return v.has("eventNotifications") }
func (v value) isCloudEvent() bool { return v.has("specversion") || v.has("type") }

// item gathers the fields of one event and the first thing wrong with them.
type item struct {
	event     Event
	operation string
	merged    string
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
func (it *item) need(field *string, name string, v value) {
	text, ok := v.scalar()
	switch {
	case !ok:
		it.reject(name + " is neither a string nor an integer")
	case text == "":
	case *field != "" && *field != text:
		it.reject(name + " is given twice with different values")
	default:
		*field = text
	}
}

// hint takes a field the event can do without: an odd one counts as missing.
func (it *item) hint(field *string, v value) {
	if text, ok := v.scalar(); ok && text != "" && *field == "" {
		*field = text
	}
}

// add files the item as an event, or as rejected with its raw bytes.
func (n *Notification) add(it *item, raw value) {
	e := &it.event
	it.require(e.RealmID, "realm id")
	it.require(e.Entity, "entity name")
	it.require(e.EntityID, "entity id")
	it.plain(it.operation, "operation")
	if it.wrong != "" {
		n.reject(raw, e.RealmID, it.wrong)
		return
	}
	e.Operation, e.OperationName = operationOf(it.operation)
	e.MergedID = mergedID(it)
	if e.ID == "" || problem(e.ID) != "" {
		e.ID = derivedID(e)
	}
	n.Events = append(n.Events, *e)
}

func (n *Notification) reject(raw value, realm, reason string) {
	if problem(realm) != "" {
		realm = ""
	}
	n.Rejected = append(n.Rejected, Rejected{RealmID: realm, Raw: bytes.Clone(raw), Reason: reason})
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

// maxText bounds ids and names: they become parts of keys and subjects.
// Intuit's are UUIDs and numbers.
const maxText = 128

// problem says why a text may not be used as an id or a name, or "". Databases
// do not take NUL, logs and subjects no line breaks, and the replacement
// character stands for bytes that were lost.
func problem(text string) string {
	if len(text) > maxText {
		return "is longer than 128 bytes"
	}
	if strings.ContainsFunc(text, unprintable) {
		return "has characters that cannot be printed"
	}
	return ""
}

package qbo

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// text takes a JSON string or number as its text; anything else is empty. The
// API's samples have ids and codes as either.
type text string

// UnmarshalJSON implements json.Unmarshaler.
func (t *text) UnmarshalJSON(raw []byte) error {
	*t = ""
	switch {
	case len(raw) == 0:
	case raw[0] == '"':
		*t = text(unquote(raw))
	case raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9':
		*t = text(raw)
	}
	return nil
}

// list takes a JSON array, or a single value as a list of one; null is empty.
type list[T any] []T

// UnmarshalJSON implements json.Unmarshaler.
func (l *list[T]) UnmarshalJSON(raw []byte) error {
	*l = nil
	switch {
	case bytes.Equal(raw, []byte("null")):
		return nil
	case len(raw) > 0 && raw[0] == '[':
		return json.Unmarshal(raw, (*[]T)(l))
	}
	var one T
	if err := json.Unmarshal(raw, &one); err != nil {
		return err
	}
	*l = list[T]{one}
	return nil
}

// check goes over an answer once, and refuses what encoding/json would.
func check(raw []byte) error {
	d := jsontext.NewDecoder(bytes.NewBuffer(raw), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if _, err := d.ReadValue(); err != nil {
		return err
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return errors.New("more than one value")
	}
	return nil
}

var (
	errNotObject = errors.New("not an object")
	errInvalid   = errors.New("not valid JSON")
)

// members visits the members of a JSON object, which is valid. A value is a part of raw.
func members(raw []byte, visit func(name []byte, value json.RawMessage) error) error {
	s := scanner{raw: raw}
	return s.members(visit)
}

// members takes an object and visits its members.
func (s *scanner) members(visit func(name []byte, value json.RawMessage) error) error {
	if s.space(); s.next() != '{' {
		return errNotObject
	}
	for first := true; ; first = false {
		if more, ok := s.more('}', first); !ok {
			return errInvalid
		} else if !more {
			return nil
		}
		name, ok := s.name()
		value, found := s.value()
		if !ok || !found {
			return errInvalid
		}
		if err := visit(unquote(name), value); err != nil {
			return err
		}
	}
}

// is reports whether a member has that name, by encoding/json's idea of it.
func is(key []byte, name string) bool { return strings.EqualFold(string(key), name) }

// unquote is the text of a valid JSON string, as a part of it if it can be. What
// is no UTF-8 is replaced.
func unquote(literal []byte) []byte {
	text := literal[1 : len(literal)-1]
	at := 0
	for at < len(text) && text[at] < utf8.RuneSelf && text[at] != '\\' {
		at++
	}
	if at == len(text) || bytes.IndexByte(text[at:], '\\') < 0 && utf8.Valid(text[at:]) {
		return text
	}
	text, _ = jsontext.AppendUnquote(nil, literal) // the text is whole also after its only error
	return text
}

// number reads a count; 0 for anything else.
func number(raw json.RawMessage) int {
	var t text
	_ = t.UnmarshalJSON(raw) // an odd value is a missing one
	n, _ := strconv.Atoi(string(t))
	return max(n, 0)
}

// isTypeError says that a field had another type than expected; the other
// fields were decoded all the same.
func isTypeError(err error) bool {
	var wrong *json.UnmarshalTypeError
	return errors.As(err, &wrong)
}

// parseTime reads a time as the API writes it: RFC 3339 with an offset or Z,
// sometimes milliseconds, now and then no zone at all or epoch milliseconds.
// A time without a zone is read as UTC. Intuit's servers are west of it, so that
// reading can only be too early, which makes a window longer and never shorter.
// Zero for anything else.
func parseTime(s string) time.Time {
	s = strings.TrimSpace(s)
	if ms, err := strconv.ParseInt(s, 10, 64); err == nil && len(s) >= 12 && len(s) <= 14 {
		return time.UnixMilli(ms).UTC()
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04:05Z0700"} {
		if at, err := time.Parse(layout, s); err == nil {
			return at.UTC()
		}
	}
	return time.Time{}
}

// FormatTime writes a time for Query and CDC: UTC in whole seconds, rounded
// down, with Z (a "+" of an offset would have to be escaped).
func FormatTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// Quote writes s as a string literal of the query language, for Query.
func Quote(s string) string {
	if strings.ContainsAny(s, `\'`) {
		s = strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s)
	}
	return "'" + s + "'"
}

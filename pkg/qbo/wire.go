package qbo

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"
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
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return err
		}
		*t = text(s)
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
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

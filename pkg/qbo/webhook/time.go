package webhook

import (
	"strconv"
	"strings"
	"time"
)

// layouts are the forms of a time that Intuit's pages, SDKs and deliveries
// show. A fraction of any length after the seconds is read by each of them.
// A time without a zone is read as UTC.
var layouts = [...]string{
	time.RFC3339,               // 2025-09-10T21:31:25.179851517Z, 2015-10-05T14:42:19-07:00
	"2006-01-02T15:04:05Z0700", // 2015-10-05T14:42:19-0700, Intuit's legacy sample
	"2006-01-02T15:04:05Z07",
	"2006-01-02T15:04:05",
	"2006-01-02 15:04:05",
}

// time takes when the change happened. One that cannot be read, or a second one
// that differs, leaves the event without a time, and such an event is always read
// from the API: a wrong time could hide a change, a missing one cannot.
func (it *item) time(v value) {
	text, ok := v.scalar()
	if !ok || len(text) == 0 {
		return
	}
	at := parseTime(string(text))
	if it.timed && !at.Equal(it.event.OccurredAt) {
		at = time.Time{}
	}
	it.timed, it.event.OccurredAt = true, at
}

// parseTime reads a time in any of the layouts or as Unix milliseconds or
// seconds; zero for any other text and for what lies outside of 2000 to 2099.
func parseTime(text string) time.Time {
	at := parseAny(text)
	if year := at.UTC().Year(); year < 2000 || year > 2099 {
		return time.Time{}
	}
	return at.UTC()
}

func parseAny(text string) time.Time {
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		if n < 100_000_000_000 { // in milliseconds that is 1973: these are seconds
			return time.Unix(n, 0)
		}
		return time.UnixMilli(n)
	}
	text = strings.ToUpper(text)
	for _, layout := range layouts {
		if at, err := time.Parse(layout, text); err == nil {
			return at
		}
	}
	return time.Time{}
}

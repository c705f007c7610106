package ingress

import (
	"net/http"
	"regexp"
)

// traceID is Intuit's id of the delivery, which their support asks for. Their
// pages name it intuit-t-id and intuit_tid. One that is not printable ASCII, or
// longer than any of theirs, is dropped: it goes into logs and onto the stream.
func traceID(h http.Header) string {
	for _, name := range []string{"Intuit-T-Id", "Intuit_tid"} {
		if id := h.Get(name); id != "" && len(id) <= 128 && printable(id) {
			return id
		}
	}
	return ""
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// https://www.w3.org/TR/trace-context/, version 00.
var validTraceparent = regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)

// traceparent is the trace context that a proxy in front put in; empty without.
func traceparent(h http.Header) string {
	if t := h.Get("Traceparent"); validTraceparent.MatchString(t) {
		return t
	}
	return ""
}

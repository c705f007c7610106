package qbo

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Fault is an error answer of the API. Test it with errors.Is against the
// sentinels of this package; one fault may be several of them.
type Fault struct {
	// Status is the HTTP status; 200 for a fault inside a normal answer.
	Status int
	// Type is Intuit's word ("ValidationFault", "AUTHENTICATION"); may be empty.
	Type string
	// Errors may be empty: a gateway's page holds none.
	Errors []FaultError
	// TID is Intuit's id of the call, for a support case; may be empty.
	TID string
	// RetryAfter is what the answer asked for; 0 if it did not. Intuit documents
	// none and was not seen to send one.
	RetryAfter time.Duration
	// CallAlone is set for a 401 to this call although the API takes its token for others.
	CallAlone bool
}

// FaultError is one error of a fault. What looks like a token in its texts is
// blanked, and each is at most 1 KiB long.
type FaultError struct {
	Message string
	Detail  string
	Code    string // without leading zeros: "3200"
	Element string
}

// Error implements error.
func (f *Fault) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "quickbooks answered %d", f.Status)
	if f.Type != "" {
		b.WriteString(" " + f.Type)
	}
	for _, e := range f.Errors {
		b.WriteString(":")
		for _, part := range []string{e.Code, e.Message, e.Detail} {
			if part != "" {
				b.WriteString(" " + part)
			}
		}
	}
	if f.TID != "" {
		b.WriteString(" (intuit_tid " + f.TID + ")")
	}
	return b.String()
}

// Is makes errors.Is work with the sentinels. Those that name a meaning follow the
// table of responses; see MeaningOf.
func (f *Fault) Is(target error) bool {
	switch target {
	case ErrUnauthorized:
		return (f.Status == http.StatusUnauthorized || f.has("3200")) && !f.CallAlone
	case ErrForbidden:
		return MeaningOf(f) == MeaningCompanyAccess
	case ErrThrottled:
		return f.Status == http.StatusTooManyRequests || f.has("3001")
	case ErrNotFound:
		return f.has("610")
	case ErrInvalidQuery:
		return f.has("4000", "4001")
	case ErrUnknownEntity:
		return f.says("metadata not found")
	case ErrPoison:
		return MeaningOf(f) == MeaningPoison
	case ErrTooOld:
		// "Operation cdc with changedSince date {date} which is older than fixed
		// days is not supported." Its code was never recorded.
		return f.says("changedsince") && f.says("older than")
	case ErrServer:
		return f.Status >= 500 || f.has("10000")
	case ErrTooLong:
		return f.Status == http.StatusRequestURITooLong ||
			f.Status == http.StatusRequestEntityTooLarge ||
			f.Status == http.StatusRequestHeaderFieldsTooLarge ||
			f.Status == http.StatusBadRequest && f.says("too long")
	}
	return false
}

func (f *Fault) has(codes ...string) bool {
	return slices.ContainsFunc(f.Errors, func(e FaultError) bool { return slices.Contains(codes, e.Code) })
}

// says looks for a lower-case phrase in any case. What a page says is no fault.
func (f *Fault) says(phrase string) bool {
	return f.readable() && slices.ContainsFunc(f.Errors, func(e FaultError) bool {
		return strings.Contains(strings.ToLower(e.Message+"\n"+e.Detail), phrase)
	})
}

// hide blanks a text that must not be seen, wherever the fault repeats it.
func (f *Fault) hide(text string) {
	if text == "" {
		return
	}
	for i := range f.Errors {
		e := &f.Errors[i]
		for _, field := range []*string{&e.Message, &e.Detail, &e.Code, &e.Element} {
			*field = strings.ReplaceAll(*field, text, redacted)
		}
	}
	f.Type = strings.ReplaceAll(f.Type, text, redacted)
}

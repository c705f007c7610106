package qbosim

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"
)

// fault is an error answer of the API.
type fault struct {
	status  int
	kind    string // "ValidationFault", …
	code    string
	message string
	detail  string
}

func invalidQuery(format string, args ...any) *fault {
	return &fault{http.StatusBadRequest, "ValidationFault", "4001", "Invalid query", "QueryValidationError: " + fmt.Sprintf(format, args...)}
}

func unreadableQuery(format string, args ...any) *fault {
	return &fault{http.StatusBadRequest, "ValidationFault", "4000", "Error parsing query", "QueryParserError: " + fmt.Sprintf(format, args...)}
}

func missingParameter(name string) *fault {
	return &fault{
		http.StatusBadRequest, "ValidationFault", "2020", "Required param missing, need to supply the required value for the API",
		"Required parameter " + name + " is missing in the request",
	}
}

func tooOld(since string) *fault {
	return &fault{
		http.StatusBadRequest, "ValidationFault", "500", "Unsupported Operation",
		"Operation cdc with changedSince date " + since + " which is older than fixed days is not supported.",
	}
}

func poisoned() *fault {
	return &fault{
		http.StatusBadRequest, "Service", "4002", "Error processing query",
		"QueryProcessingError: To email address entered is invalid",
	}
}

func notFound() *fault {
	return &fault{
		http.StatusBadRequest, "ValidationFault", "610", "Object Not Found",
		"Object Not Found : Something you're trying to use has been made inactive. Check the fields with accounts, customers, items, vendors or employees.",
	}
}

func throttled() *fault {
	return &fault{
		http.StatusTooManyRequests, "SERVICE", "3001", "message=ThrottleExceeded; errorCode=003001; statusCode=429",
		"The request limit was reached.  Try again later",
	}
}

func unauthenticated(detail string) *fault {
	return &fault{
		http.StatusUnauthorized, "AUTHENTICATION", "3200",
		"message=AuthenticationFailed; errorCode=003200; statusCode=401", detail,
	}
}

func forbidden() *fault {
	return &fault{
		http.StatusForbidden, "AUTHORIZATION", "3100",
		"message=ApplicationAuthorizationFailed; errorCode=003100; statusCode=403", "",
	}
}

func systemFault(status int) *fault {
	return &fault{status, "SystemFault", "10000", "An application error has occurred while processing your request", "System Failure Error: null"}
}

// body is the Fault object as most answers have it.
func (f *fault) body() map[string]any {
	return map[string]any{
		"Error": []any{map[string]any{"Message": f.message, "Detail": f.detail, "code": f.code}},
		"type":  f.kind,
	}
}

// write answers in one of Intuit's shapes: JSON in upper case, JSON in lower
// case (always for authentication), or XML whatever was asked for.
func (f *fault) write(w http.ResponseWriter, now time.Time, rng *rand.Rand) {
	lower, asXML := 0.1, 0.1
	switch f.status {
	case http.StatusUnauthorized, http.StatusForbidden:
		lower, asXML = 1, 0
	case http.StatusTooManyRequests:
		lower, asXML = 0.3, 0.4
	}
	switch draw := rng.Float64(); {
	case draw < lower:
		f.writeLower(w, now)
	case draw < lower+asXML:
		f.writeXML(w, now)
	case f.status >= 500 && draw > 0.7:
		// A gateway in front of the API answers for it.
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(f.status)
		fmt.Fprintf(w, "<html><head><title>%d %s</title></head></html>", f.status, http.StatusText(f.status))
	default:
		writeJSON(w, f.status, map[string]any{"Fault": f.body(), "time": answerTime(now)})
	}
}

func (f *fault) writeLower(w http.ResponseWriter, now time.Time) {
	writeJSON(w, f.status, map[string]any{
		"warnings": nil, "intuitObject": nil,
		"fault": map[string]any{
			"error": []any{map[string]any{"message": f.message, "detail": f.detail, "code": f.code, "element": nil}},
			"type":  f.kind,
		},
		"report": nil, "queryResponse": nil, "batchItemResponse": []any{}, "attachableResponse": []any{},
		"syncErrorResponse": nil, "requestId": nil, "time": now.UnixMilli(), "status": nil, "cdcresponse": []any{},
	})
}

func (f *fault) writeXML(w http.ResponseWriter, now time.Time) {
	escape := func(text string) string {
		var b bytes.Buffer
		_ = xml.EscapeText(&b, []byte(text)) // a buffer takes all
		return b.String()
	}
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(f.status)
	fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<IntuitResponse time="%s" xmlns="http://schema.intuit.com/finance/v3">
  <Fault type="%s">
    <Error code="%s">
      <Message>%s</Message>
      <Detail>%s</Detail>
    </Error>
  </Fault>
</IntuitResponse>
`, answerTime(now), escape(f.kind), escape(f.code), escape(f.message), escape(f.detail))
}

// answerTime is the time of an answer, in California's offset.
func answerTime(now time.Time) string {
	return now.In(zones[0]).Format("2006-01-02T15:04:05.000-07:00")
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

package qbo

import (
	"bytes"
	"cmp"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"html"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
)

const (
	redacted       = "[REDACTED]"
	maxFaultBody   = 1 << 20
	maxFaultErrors = 10
	maxFaultText   = 1 << 10
	maxRetryAfter  = 24 * time.Hour
	// noFault begins the message of a Fault that was not in the body.
	noFault = "no fault in the body"
)

// DecodeFault reads the answer to a failed call. Intuit sends faults as JSON in
// two spellings, and as XML even to who accepts only JSON (throttling); gateways
// send pages of HTML or nothing. What cannot be read is a Fault with a status
// alone. It never returns nil.
func DecodeFault(status int, header http.Header, body []byte) *Fault {
	f := faultIn(body)
	if f == nil {
		f = &Fault{}
		if said := unreadable(status, header, body); said != "" {
			f.Errors = []FaultError{{Message: said}}
		}
	}
	f.Status = status
	f.TID = tid(header)
	f.RetryAfter = retryAfter(header)
	return f
}

// faultIn returns the fault of a body, or nil if it holds none.
func faultIn(body []byte) *Fault {
	body = bytes.TrimSpace(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")))
	switch {
	case len(body) == 0 || len(body) > maxFaultBody:
		return nil
	case body[0] == '<':
		return decodeFaultXML(body)
	}
	var root struct {
		Fault json.RawMessage `json:"Fault"` // matches "fault" too
	}
	_ = json.Unmarshal(body, &root) // what is no JSON object leaves root empty
	return decodeFaultValue(root.Fault)
}

// xmlFault is the fault of an answer of status 200 that is XML although JSON was
// asked for; nil if it is not.
func xmlFault(body []byte) *Fault {
	body = trim(body)
	if len(body) == 0 || body[0] != '<' || len(body) > maxFaultBody {
		return nil
	}
	return decodeFaultXML(body)
}

// unreadable says what came in place of a fault; empty if nothing did. What a page says
// and where a redirect leads tell an operator that the base URL is wrong.
func unreadable(status int, header http.Header, body []byte) string {
	message := noFault
	if len(body) > 0 {
		message += fmt.Sprintf(" (%s, %d bytes)", header.Get("Content-Type"), len(body))
	}
	if to, _, _ := strings.Cut(header.Get("Location"), "?"); status/100 == 3 && to != "" {
		message += ", redirects to " + to
	}
	if message == noFault {
		return ""
	}
	return clean(message + cmp.Or(gatewayText(body), pageText(body)))
}

var (
	unseen = regexp.MustCompile(`(?is)<(script|style)\b.*?</(script|style)>|<!--.*?-->`)
	tag    = regexp.MustCompile(`<[^>]*>`)
)

// maxPageText bounds what is kept of a page.
const maxPageText = 200

// pageText is what a page of HTML shows, shortened; empty if the body is none.
func pageText(body []byte) string {
	body = trim(body)
	if len(body) == 0 || len(body) > maxFaultBody || body[0] != '<' {
		return ""
	}
	text := html.UnescapeString(tag.ReplaceAllString(unseen.ReplaceAllString(string(body), " "), " "))
	// Shortened last: of a token that is cut, the rest would not look like one.
	shown := []rune(clean(text))
	if len(shown) == 0 {
		return ""
	}
	if len(shown) > maxPageText {
		shown = append(shown[:maxPageText], '…')
	}
	return ": " + string(shown)
}

// gatewayText is the error that Intuit's gateway wrote, which is in a form of its own;
// empty if the body is another.
func gatewayText(body []byte) string {
	var wire struct {
		Code    text `json:"code"`
		Message text `json:"message"`
		Detail  text `json:"detail"`
	}
	if len(body) > maxFaultBody || json.Unmarshal(trim(body), &wire) != nil {
		return ""
	}
	said := strings.Join(strings.Fields(strings.Join([]string{string(wire.Code), string(wire.Message), string(wire.Detail)}, " ")), " ")
	if said == "" {
		return ""
	}
	return ": " + said
}

// decodeFaultValue reads the value under "Fault" or "fault"; nil for null.
func decodeFaultValue(raw json.RawMessage) *Fault {
	if len(raw) == 0 || raw[0] != '{' {
		return nil
	}
	var wire struct {
		Error list[struct {
			Message text `json:"Message"`
			Detail  text `json:"Detail"`
			Code    text `json:"code"`
			Element text `json:"element"`
		}] `json:"Error"`
		Type text `json:"type"`
	}
	if err := json.Unmarshal(raw, &wire); err != nil && !isTypeError(err) {
		return nil
	}
	f := &Fault{Type: clean(string(wire.Type))}
	for _, e := range wire.Error {
		f.add(string(e.Message), string(e.Detail), string(e.Code), string(e.Element))
	}
	return f
}

func decodeFaultXML(body []byte) *Fault {
	var wire struct {
		Fault struct {
			Type   string `xml:"type,attr"`
			Errors []struct {
				Code    string `xml:"code,attr"`
				Element string `xml:"element,attr"`
				Message string `xml:"Message"`
				Detail  string `xml:"Detail"`
			} `xml:"Error"`
		} `xml:"Fault"`
	}
	// Codes and tags are ASCII in any charset that a server may declare.
	d := xml.NewDecoder(bytes.NewReader(bytes.ToValidUTF8(body, []byte("\uFFFD"))))
	d.CharsetReader = func(_ string, input io.Reader) (io.Reader, error) { return input, nil }
	_ = d.Decode(&wire) // HTML fails early; of a page cut short we take what there is
	f := &Fault{Type: clean(wire.Fault.Type)}
	for _, e := range wire.Fault.Errors {
		f.add(e.Message, e.Detail, e.Code, e.Element)
	}
	if f.Type == "" && len(f.Errors) == 0 {
		return nil
	}
	return f
}

func (f *Fault) add(message, detail, code, element string) {
	if len(f.Errors) == maxFaultErrors {
		return
	}
	if code == "" {
		code = codeIn(message)
	}
	if trimmed := strings.TrimLeft(code, "0"); trimmed != "" {
		code = trimmed
	}
	f.Errors = append(f.Errors, FaultError{Message: clean(message), Detail: clean(detail), Code: clean(code), Element: clean(element)})
}

// codeIn finds the code in "message=ThrottleExceeded; errorCode=003001; statusCode=429".
func codeIn(message string) string {
	_, rest, found := strings.Cut(message, "errorCode=")
	found = found && !strings.HasPrefix(message, noFault) // what a page says is no code
	if !found {
		return ""
	}
	end := strings.IndexFunc(rest, func(r rune) bool { return !unicode.IsDigit(r) })
	if end < 0 {
		end = len(rest)
	}
	return rest[:end]
}

var (
	// afterToken finds what follows "Token expired:" and the like.
	afterToken = regexp.MustCompile(`(?i)(token[^:=\n]{0,40}[:=]\s*["']?)([^\s"',;]+)`)
	// prose is how a sentence goes on: "Malformed bearer token: too short or too long".
	prose = regexp.MustCompile(`^[a-z]{1,8} [a-z]`)
	// opaque finds runs that are too long to be one word; tokens, mostly.
	opaque = regexp.MustCompile(`[A-Za-z0-9_\-+/=.~]{32,}`)
	// telling is a part of such a run that no token consists of: a word or several
	// in camel case (of a class name or error), a number (of a realm), a host or
	// version such as c10 and v3.
	telling = regexp.MustCompile(`^(([A-Z]{0,5}[a-z]{2,})*[A-Z]{0,5}|[0-9]{1,20}|[a-z]{1,5}[0-9]{1,3})$`)
)

// maxTelling is how long such a part can be.
const maxTelling = 31

// clean makes a text of Intuit's fit for logs: one line, bounded, valid UTF-8,
// with what looks like a token blanked. Intuit repeats the refused token in the
// detail of a 3200: "Token expired: AB01730024136...". Paths, class names and what
// follows "message=" stay: they tell an operator what is wrong.
func clean(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	s = opaque.ReplaceAllStringFunc(s, blank)
	s = blankAfterToken(s)
	if len(s) > maxFaultText {
		s = strings.ToValidUTF8(s[:maxFaultText], "")
	}
	return strings.TrimSpace(s)
}

// blank hides a long run unless each of its parts is telling. A token in it hides the
// whole run, for a part of a token may look like a word.
func blank(run string) string {
	for _, part := range strings.FieldsFunc(run, func(r rune) bool { return strings.ContainsRune("/=.-_+~", r) }) {
		if len(part) > maxTelling || !telling.MatchString(part) {
			return redacted
		}
	}
	return run
}

func blankAfterToken(s string) string {
	var b strings.Builder
	end := 0
	for _, at := range afterToken.FindAllStringSubmatchIndex(s, -1) {
		b.WriteString(s[end:at[4]])
		if value := s[at[4]:]; prose.MatchString(value) {
			b.WriteString(s[at[4]:at[5]])
		} else {
			b.WriteString(redacted)
		}
		end = at[5]
	}
	return b.String() + s[end:]
}

// plainTID is what Intuit's ids of a call look like: a UUID, or dashed groups of
// hex digits. No token looks so.
var plainTID = regexp.MustCompile(`^[0-9a-fA-F-]{1,64}$`)

// tid is Intuit's id of the call, which its support asks for. The API spells the
// header intuit_tid. Anything else that came in it is cleaned like a text.
func tid(header http.Header) string {
	id := header.Get("intuit_tid")
	if id == "" {
		id = header.Get("intuit-t-id")
	}
	if plainTID.MatchString(id) {
		return id
	}
	return clean(id)
}

// retryAfter reads seconds or a date; the date counts from the answer's own.
func retryAfter(header http.Header) time.Duration {
	value := strings.TrimSpace(header.Get("Retry-After"))
	if seconds, err := strconv.ParseInt(value, 10, 32); err == nil {
		return bounded(time.Duration(seconds) * time.Second)
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	answered, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return 0
	}
	return bounded(at.Sub(answered))
}

func bounded(d time.Duration) time.Duration { return min(max(d, 0), maxRetryAfter) }

package ingress

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/labstack/echo/v4"
)

// outcome is how a request ended, in one word: the label of the metrics.
type outcome string

const (
	stored       outcome = "stored"        // 200: all of it is on the stream or among the dead letters
	unavailable  outcome = "unavailable"   // 503: not acknowledged within the budget
	overloaded   outcome = "overloaded"    // 503: too many requests or bytes in hand
	noSignature  outcome = "no_signature"  // 401
	badSignature outcome = "bad_signature" // 401
	unknownApp   outcome = "unknown_app"   // 404
	noRoute      outcome = "no_route"      // 404: not a path of this service
	wrongMethod  outcome = "wrong_method"  // 405
	slowBody     outcome = "slow_body"     // 408
	brokenBody   outcome = "broken_body"   // 400: the sender went away, or broke HTTP
	tooLarge     outcome = "too_large"     // 413
	crashed      outcome = "crashed"       // 500: a mistake of this program, before the signature was checked
)

// problem is an answer other than 200, as the error of a step. Its texts are
// chosen for strangers and say nothing about this system; the cause is for the log.
type problem struct {
	outcome outcome
	cause   error
	status  int
	detail  string
	unread  bool // answered before the body was read, although its outcome is of a body
}

func (p *problem) Error() string { return p.detail }
func (p *problem) Unwrap() error { return p.cause }

func refuse(o outcome, cause error) *problem {
	p := &problem{outcome: o, cause: cause}
	switch o {
	case noSignature:
		p.status, p.detail = http.StatusUnauthorized, "The intuit-signature header is missing."
	case badSignature:
		p.status, p.detail = http.StatusUnauthorized, "The signature does not fit the body."
	case unknownApp, noRoute:
		p.status, p.detail = http.StatusNotFound, "There is nothing here."
	case wrongMethod:
		p.status, p.detail = http.StatusMethodNotAllowed, "Webhooks are sent by POST."
	case slowBody:
		p.status, p.detail = http.StatusRequestTimeout, "The body took too long."
	case brokenBody:
		p.status, p.detail = http.StatusBadRequest, "The body ended early."
	case tooLarge:
		p.status, p.detail = http.StatusRequestEntityTooLarge, "The body is too large."
	case overloaded:
		p.status, p.detail = http.StatusServiceUnavailable, "Too many requests at once. Send it again."
	case unavailable:
		p.status, p.detail = http.StatusServiceUnavailable, "The notification could not be stored in time. Send it again."
	default:
		p.status, p.detail = http.StatusInternalServerError, "Something went wrong."
	}
	return p
}

// asProblem makes the error of a step, or what echo says of an unknown path or
// method, a problem.
func asProblem(err error) *problem {
	var p *problem
	var h *echo.HTTPError
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &h) && h.Code == http.StatusNotFound:
		return refuse(noRoute, nil)
	case errors.As(err, &h) && h.Code == http.StatusMethodNotAllowed:
		return refuse(wrongMethod, nil)
	default:
		return refuse(crashed, err)
	}
}

// retryAfter is in seconds: Intuit's own first delay.
const retryAfter = 10

const problemType = "application/problem+json"

// body is the problem in the form of RFC 9457.
func (p *problem) body() ([]byte, error) {
	return json.Marshal(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{"about:blank", http.StatusText(p.status), p.status, p.detail})
}

// bodyRead reports whether the body was read to its end.
func (p *problem) bodyRead() bool {
	if p.unread {
		return false
	}
	return p.outcome == noSignature || p.outcome == badSignature || p.outcome == unavailable
}

// write answers the request r.
func (p *problem) write(w http.ResponseWriter, r *http.Request) error {
	body, err := p.body()
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", problemType)
	switch p.status {
	case http.StatusServiceUnavailable:
		h.Set("Retry-After", strconv.Itoa(retryAfter))
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", "Intuit-Signature")
	case http.StatusMethodNotAllowed:
		h.Set("Allow", http.MethodPost)
	}
	if r.ProtoMajor == 1 && !p.bodyRead() {
		// Without this the server would read some of it before it answers, and wait
		// for a sender that sends none. Over HTTP/2 the stream ends in any case, and
		// the other requests of the connection have nothing to do with it.
		h.Set("Connection", "close")
	}
	w.WriteHeader(p.status)
	_, err = w.Write(body)
	return err
}

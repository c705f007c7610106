package ingress

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
)

// request is what is known of a request in hand.
type request struct {
	began time.Time // by this machine's clock: the budget runs from here
	peer  string
	addr  netip.Addr // of the peer, as it is counted
	app   *app       // nil until it is found
	by    *app       // whose token signed it, if that is another app
	bytes int
	tid   string
	hold  hold
	trace string // the W3C trace context of what goes on the stream, if there is one
	tally tally
}

// receive is POST /webhooks/:app. Whatever happens in it, it answers and counts.
func (s *Server) receive(c echo.Context) error {
	r := &request{began: time.Now(), peer: c.RealIP()}
	if err := s.bounded(c, r); err != nil {
		s.answer(c, r, asProblem(err))
		return nil
	}
	s.report(r, stored, nil)
	err := c.NoContent(http.StatusOK)
	sabotage.At(sabotage.Answered, c.Response().Flush)
	return err
}

// bounded holds the number of requests in hand; one beyond does not wait. Over
// HTTP/1 there is one a connection at most, over HTTP/2 there may be many.
func (s *Server) bounded(c echo.Context, r *request) error {
	if !s.received.enter() {
		return refuse(overloaded, errNoSlot)
	}
	defer s.received.leave()
	s.metrics.inFlight.Inc()
	defer s.metrics.inFlight.Dec()
	ip, _ := netip.ParseAddr(r.peer) // what is none is a stranger as any other
	r.addr = address(ip)
	one := usage{requests: 1}
	stranger, why := s.peers.take(r.addr, one, r.began)
	if why != granted {
		s.peers.refused(r.addr, one, why)
		return refuse(overloaded, errShare)
	}
	r.hold = hold{memory: s.memory, peers: s.peers, stranger: stranger}
	defer r.hold.release()
	return s.handle(c, r)
}

// slots hold one for each request there is, so many at most.
type slots chan struct{}

var (
	errNoSlot = errors.New("too many requests in flight")
	errShare  = errors.New("the address reached its share of the requests in flight")
)

// enter takes a slot, or reports at once that there is none.
func (s slots) enter() bool {
	select {
	case s <- struct{}{}:
		return true
	default:
		return false
	}
}

func (s slots) leave() { <-s }

// handle reads and verifies, then stores.
func (s *Server) handle(c echo.Context, r *request) (err error) {
	defer recovered(crashed, &err)
	req := c.Request()
	// A trailing slash is easily typed in the portal, and names the same app.
	if r.app = s.app(strings.TrimSuffix(c.Param("app"), "/")); r.app == nil {
		s.reportMisdirected(c.Response().Writer, req, r)
		return refuse(unknownApp, nil)
	}
	if err := plausible(req); err != nil {
		return err
	}
	body, err := readBody(c.Response().Writer, req, s.config.MaxBody, r.began.Add(s.config.BodyTimeout), &r.hold)
	if err != nil {
		return refuse(bodyOutcome(err), err)
	}
	sabotage.At(sabotage.Received)
	token, err := r.app.verifier.Verify(body, req.Header.Get(webhook.SignatureHeader))
	if err != nil {
		r.by = s.signedBy(req, r, body)
		return refuse(signatureOutcome(err), err)
	}
	r.app.matches[token].Inc()
	s.peers.signed(r.addr, r.began)
	sabotage.At(sabotage.Verified)
	// Only here: until the signature fits anybody may be slow on purpose, and would
	// keep Intuit out.
	if !s.storing.enter() {
		return refuse(overloaded, errNoSlot)
	}
	defer s.storing.leave()
	return s.store(req, r, body)
}

// store is what follows a good signature: from here on the answer is 200, or 503
// and Intuit sends it again (I10).
func (s *Server) store(req *http.Request, r *request, body []byte) (err error) {
	defer recovered(unavailable, &err)
	r.bytes, r.tid = len(body), traceID(req.Header)
	// Not ended by the request: neither a sender that hangs up nor the body's
	// deadline undoes what is about to be stored.
	ctx, cancel := context.WithDeadline(context.WithoutCancel(req.Context()), r.began.Add(s.config.Budget))
	defer cancel()
	ctx, end := s.span(ctx, req, r)
	defer func() { end(err) }()
	r.tally, err = s.publish(ctx, notification{
		app:  r.app,
		body: body,
		meta: envelope.Meta{App: r.app.name, IntuitTID: r.tid, Traceparent: r.trace, ReceivedAt: s.now().UTC()},
	})
	if err != nil {
		return refuse(unavailable, err)
	}
	sabotage.At(sabotage.Published)
	return nil
}

var errPanic = errors.New("panic")

// recovered makes a panic an answer; defer it. The stack goes to the log.
func recovered(o outcome, err *error) {
	if p := recover(); p != nil {
		*err = refuse(o, fmt.Errorf("%w: %v\n%s", errPanic, p, debug.Stack()))
	}
}

func bodyOutcome(err error) outcome {
	switch {
	case errors.Is(err, errTooLarge):
		return tooLarge
	case errors.Is(err, errNoMemory):
		return overloaded
	case errors.Is(err, errBodyLate):
		return slowBody
	default:
		return brokenBody
	}
}

var errImplausible = errors.New("the signature is not 44 characters of base64")

// plausible refuses what cannot be signed before its body is read: a body costs memory
// and time, and anybody may send one.
func plausible(req *http.Request) error {
	if looksSigned(req.Header) {
		return nil
	}
	p := refuse(noSignature, nil)
	if strings.TrimSpace(req.Header.Get(webhook.SignatureHeader)) != "" {
		p = refuse(badSignature, errImplausible)
	}
	p.unread = req.ContentLength != 0
	return p
}

func signatureOutcome(err error) outcome {
	if errors.Is(err, webhook.ErrNoSignature) {
		return noSignature
	}
	return badSignature
}

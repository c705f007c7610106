package ingress

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/labstack/echo/v4"
	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// Intuit's headers, from its page on webhooks: intuit-t-id is what is seen on
// the wire, intuit_tid what the documentation says.
const (
	headerTID         = "Intuit-T-Id"
	headerTIDAsDoc    = "Intuit_tid"
	headerTraceparent = "Traceparent"
)

// request is one POST on its way through the steps.
type request struct {
	app      string
	token    int // index of the verifier token that fits
	body     []byte
	tid      string
	trace    string
	received time.Time
}

// receive runs the steps of one request: read, verify, parse, publish, answer.
func (s *Server) receive(c echo.Context) error {
	started := s.now()
	tokens, known := s.apps[c.Param("app")]
	if !known {
		return s.answer(c, started, "", outcomeUnknownApp, nil)
	}
	app := c.Param("app")
	if c.Request().Method != http.MethodPost {
		c.Response().Header().Set(echo.HeaderAllow, http.MethodPost)
		return s.answer(c, started, app, outcomeMethod, nil)
	}
	select {
	case s.inFlight <- struct{}{}:
		defer func() { <-s.inFlight }()
	default:
		return s.answer(c, started, app, outcomeOverload, nil)
	}
	// Not the request's context alone: a sender that hangs up does not undo
	// what is about to be stored.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Request().Context()), s.config.Budget)
	defer cancel()

	body, outcome, err := s.read(c, started)
	if err != nil {
		return s.answer(c, started, app, outcome, err)
	}
	s.metrics.bytes.WithLabelValues(app).Add(float64(len(body)))
	r := request{
		app: app, body: body, received: started.UTC(),
		tid:   firstOf(c.Request().Header.Get(headerTID), c.Request().Header.Get(headerTIDAsDoc)),
		trace: c.Request().Header.Get(headerTraceparent),
	}
	if r.token, err = verify(c.Request().Header, body, tokens); err != nil {
		return s.answer(c, started, app, outcomeSignature, err)
	}
	s.metrics.token(app, r.token)
	if err := s.store(ctx, r); err != nil {
		return s.answer(c, started, app, outcomeNotStored, err)
	}
	return s.answer(c, started, app, outcomeStored, nil)
}

// read reads the body within the cap and the budget.
func (s *Server) read(c echo.Context, started time.Time) ([]byte, string, error) {
	w, r := c.Response().Writer, c.Request()
	// Not every writer has deadlines (a test's recorder has none); the server's
	// own timeouts still hold then.
	if err := http.NewResponseController(w).SetReadDeadline(started.Add(s.config.Budget)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, outcomeAborted, err
	}
	if r.ContentLength > s.config.MaxBody {
		return nil, outcomeTooLarge, errTooLarge
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.config.MaxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil:
		return body, "", nil
	case errors.As(err, &tooLarge):
		return nil, outcomeTooLarge, errTooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, outcomeSlow, err
	default:
		return nil, outcomeAborted, err
	}
}

var errTooLarge = errors.New("body above ingress.max_body")

// verify tries each value of the header: a proxy may have added one.
func verify(h http.Header, body []byte, tokens []secret.String) (int, error) {
	signatures := h.Values(webhook.SignatureHeader)
	if len(signatures) == 0 {
		return -1, webhook.ErrNoSignature
	}
	var err error
	for _, signature := range signatures[:min(len(signatures), 4)] {
		var index int
		if index, err = webhook.Verify(body, signature, tokens); err == nil {
			return index, nil
		}
	}
	return -1, err
}

// note writes the one line of a request.
func (s *Server) note(c echo.Context, app, outcome string, status int, took time.Duration, err error) {
	level := zap.DebugLevel
	switch outcome {
	case outcomeStored:
	case outcomeNotStored, outcomeOverload, outcomeSignature, outcomeTooLarge:
		level = zap.WarnLevel
	default:
		level = zap.InfoLevel
	}
	if line := s.log.Check(level, "notification answered"); line != nil {
		line.Write(telemetry.App(app), telemetry.Outcome(outcome), telemetry.Status(status), telemetry.Took(took),
			telemetry.TID(firstOf(c.Request().Header.Get(headerTID), c.Request().Header.Get(headerTIDAsDoc))),
			telemetry.Address(c.RealIP()), telemetry.Error(err))
	}
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

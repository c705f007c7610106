package ingress

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"
)

// How a request can end; also the label of the metrics.
const (
	outcomeStored     = "stored"
	outcomeNotStored  = "not_stored"
	outcomeOverload   = "overload"
	outcomeSignature  = "bad_signature"
	outcomeTooLarge   = "too_large"
	outcomeSlow       = "slow_body"
	outcomeAborted    = "aborted"
	outcomeMethod     = "bad_method"
	outcomeUnknownApp = "unknown_app"
	outcomeNoRoute    = "no_route"
)

// retryAfter is Intuit's own first delay.
const retryAfter = 10 * time.Second

// problem is a body of RFC 9457. Its texts are chosen: they tell a stranger
// what to do and nothing about this system.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
}

var problems = map[string]problem{
	outcomeNotStored:  {Status: http.StatusServiceUnavailable, Title: "Not stored", Detail: "The notification could not be stored durably in time. Send it again."},
	outcomeOverload:   {Status: http.StatusServiceUnavailable, Title: "Busy", Detail: "Too many requests at once. Send it again."},
	outcomeSignature:  {Status: http.StatusUnauthorized, Title: "Bad signature", Detail: "The intuit-signature header is missing or does not fit the body."},
	outcomeTooLarge:   {Status: http.StatusRequestEntityTooLarge, Title: "Body too large"},
	outcomeSlow:       {Status: http.StatusRequestTimeout, Title: "Body not received in time"},
	outcomeAborted:    {Status: http.StatusBadRequest, Title: "Body not received"},
	outcomeMethod:     {Status: http.StatusMethodNotAllowed, Title: "Method not allowed", Detail: "Webhooks are sent by POST."},
	outcomeUnknownApp: {Status: http.StatusNotFound, Title: "Not found"},
	outcomeNoRoute:    {Status: http.StatusNotFound, Title: "Not found"},
}

// answer sends what belongs to the outcome: 200 with an empty body, or a problem.
func (s *Server) answer(c echo.Context, started time.Time, app, outcome string, cause error) error {
	took := s.now().Sub(started)
	status := http.StatusOK
	if p, bad := problems[outcome]; bad {
		status = p.Status
	}
	s.metrics.answered(app, outcome, took)
	s.note(c, app, outcome, status, took, cause)
	if status == http.StatusOK {
		return c.NoContent(http.StatusOK)
	}
	return writeProblem(c, problems[outcome])
}

// answerError is for what never reached the handler: an unknown path, a request
// that echo refuses.
func (s *Server) answerError(err error, c echo.Context) {
	if c.Response().Committed {
		return
	}
	p := problem{Status: http.StatusInternalServerError, Title: "Internal error"}
	var he *echo.HTTPError
	if errors.As(err, &he) {
		p = problem{Status: he.Code, Title: http.StatusText(he.Code)}
	}
	s.metrics.answered("", outcomeNoRoute, 0)
	s.note(c, "", outcomeNoRoute, p.Status, 0, err)
	_ = writeProblem(c, p) // the sender has gone: nobody is left to tell
}

func writeProblem(c echo.Context, p problem) error {
	p.Type = "about:blank"
	body, err := json.Marshal(p)
	if err != nil {
		return err
	}
	h := c.Response().Header()
	if p.Status == http.StatusServiceUnavailable {
		h.Set(echo.HeaderRetryAfter, strconv.Itoa(int(retryAfter.Seconds())))
	}
	if p.Status == http.StatusRequestEntityTooLarge || p.Status == http.StatusRequestTimeout {
		// The rest of the body is not read.
		h.Set(echo.HeaderConnection, "close")
	}
	return c.Blob(p.Status, "application/problem+json", body)
}

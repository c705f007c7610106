package console

import (
	"crypto/rand"
	"regexp"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/action"
)

// note records an action. One that was taken is not undone because it could not be
// recorded: see the package action.
func (s *Server) note(c echo.Context, what, on, outcome string) {
	e := s.entry(c, who(c), what)
	e.On, e.Outcome = on, outcome
	s.trail.Record(c.Request().Context(), e)
}

// noteAs is note for somebody who has just proved who he is.
func (s *Server) noteAs(c echo.Context, id identity, what, outcome string) {
	e := s.entry(c, id, what)
	e.Outcome = outcome
	s.trail.Record(c.Request().Context(), e)
}

// refused records that a request was refused; what one sender repeats is counted.
func (s *Server) refused(c echo.Context, what, why string) {
	e := s.entry(c, who(c), what)
	e.Outcome = "refused: " + why
	s.trail.Refuse(e)
}

func (s *Server) entry(c echo.Context, id identity, what string) action.Entry {
	e := action.Entry{
		At: s.o.Now().UTC(), Who: id.Who, Role: id.Role.String(), Via: action.Console, What: what,
		From: action.From(c), Request: c.Response().Header().Get(echo.HeaderXRequestID),
	}
	if wantsJSON(c) {
		e.Via = action.API
	}
	if e.Who == "" {
		e.Who, e.Role = "nobody", ""
	}
	return e
}

// attempt names what was asked for, for a request that is refused.
func attempt(c echo.Context) string {
	text := c.Request().Method + " " + c.Path()
	if values := strings.Join(c.ParamValues(), " "); values != "" {
		text += " (" + values + ")"
	}
	if len(text) > maxAttempt {
		text = text[:maxAttempt]
	}
	return text
}

const maxAttempt = 200

// requestIDs are those that a proxy in front may have given.
var requestIDs = regexp.MustCompile(`^[A-Za-z0-9._-]{8,64}$`)

// requestID names each request, for the trail and for whoever asks about an answer.
func requestID(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		id := c.Request().Header.Get(echo.HeaderXRequestID)
		if !requestIDs.MatchString(id) {
			id = rand.Text()
		}
		c.Response().Header().Set(echo.HeaderXRequestID, id)
		return next(c)
	}
}

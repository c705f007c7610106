package console

import (
	"bytes"
	"fmt"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/action"
)

// param is one of a route's, in the path, the query or the form.
type param struct{ name, in, doc string }

// route is a page, an action, or both of them as JSON.
type route struct {
	name    string // of the template and in the OpenAPI document
	title   string
	nav     string // the entry of the menu it belongs to
	path    string // of the page; "" for the API alone
	api     string // below /api/v1
	summary string
	params  []param
	// live pages are sent again by SSE while they are open.
	live bool
	// One of the two: read shows something, act does something and may take operators
	// alone.
	read func(s *Server, c echo.Context) (any, error)
	act  func(s *Server, c echo.Context) (result, error)
}

// result is what came of an action.
type result struct {
	Message string `json:"message"`
	// On is what was acted on, for the log of actions; Back the page to go to.
	On   string `json:"-"`
	Back string `json:"-"`
	Data any    `json:"data,omitempty"`
}

const apiBase = "/api/v1"

func realmParam() param { return param{"realm", "path", "Company id (realmId)."} }

func letterParams(in string) []param {
	return []param{
		{"reason", in, "Why, as sink-refused."}, {"realm", in, "Company id."}, {"entity", in, "Kind of record, as Invoice."},
		{"id", in, "Id of a record."}, {"sink", in, "Name of a sink."},
	}
}

// routes are all that need a login. The order is that of the OpenAPI document.
func routes() []route {
	seq := param{"seq", "path", "Number of the dead letter."}
	kind := param{"entity", "path", "Kind of record, as Invoice."}
	sink := param{"sink", "path", "Name of the sink, as in processor.sinks."}
	return []route{
		{name: "overview", title: "Overview", nav: "overview", path: "/", api: "/overview", live: true,
			summary: "How the feed is doing.", params: []param{{"range", "query", "hour or day: how far back the charts go."}}, read: (*Server).overview},
		{name: "realms", title: "Realms", nav: "realms", path: "/realms", api: "/realms", summary: "Companies, 50 a page.",
			params: []param{{"q", "query", "Ids that begin so."}, {"state", "query", "live, catching_up, gap_suspected, no_access, subscription_ended, wrong_environment, parked, pending_approval or disconnected."}, {"after", "query", "Where the page begins: next of the page before."}},
			read:   (*Server).realmList},
		{name: "realm", title: "Realm", nav: "realms", path: "/realms/:realm", api: "/realms/:realm", live: true,
			summary: "One company: cursors, last webhooks, coverage, last changes.", params: []param{realmParam()}, read: (*Server).realm},
		{name: "scan", path: "/realms/:realm/scan", api: "/realms/:realm/scan", summary: "Have a company, or one kind of its records, scanned now.",
			params: []param{realmParam(), {"entity", "form", "Kind of record; empty for all."}}, act: (*Server).scan},
		{name: "backfill", path: "/realms/:realm/backfill", api: "/realms/:realm/backfill", summary: "Have a company, or one kind of its records, read from the beginning, and what sinks lack delivered.",
			params: []param{realmParam(), {"entity", "form", "Kind of record; empty for all."}}, act: (*Server).backfill},
		{name: "cancel", path: "/realms/:realm/cancel", api: "/realms/:realm/cancel", summary: "End the scan or backfill that was asked for.",
			params: []param{realmParam()}, act: (*Server).cancel},
		{name: "approve-realm", path: "/realms/:realm/approve", api: "/realms/:realm/approve", summary: "Connect a company whose consent waits for approval.",
			params: []param{realmParam()}, act: (*Server).approveRealm},
		{name: "reject-realm", path: "/realms/:realm/reject", api: "/realms/:realm/reject", summary: "Give a consent that waits for approval back to Intuit.",
			params: []param{realmParam()}, act: (*Server).rejectRealm},
		{name: "gaps", title: "Gaps", nav: "gaps", path: "/gaps", api: "/gaps", summary: "What webhooks did not tell of, why, and what to do.",
			params: []param{{"realm", "query", "One company."}, {"verdict", "query", "One verdict."}}, read: (*Server).gaps},
		{name: "deletions", title: "Held deletions", nav: "deletions", path: "/deletions", api: "/deletions", summary: "Deletions that wait for a decision, because many records were absent at once.", read: (*Server).deletions},
		{name: "approve", path: "/realms/:realm/deletions/:entity/approve", api: "/realms/:realm/deletions/:entity/approve",
			summary: "Publish the held deletions of one kind of a company's records, of what QuickBooks still does not return.", params: []param{realmParam(), kind}, act: (*Server).approve},
		{name: "reject", path: "/realms/:realm/deletions/:entity/reject", api: "/realms/:realm/deletions/:entity/reject",
			summary: "Keep the records of held deletions.", params: []param{realmParam(), kind}, act: (*Server).reject},
		{name: "dead", title: "Dead letters", nav: "dead", path: "/dead", api: "/dead", summary: "What could not be delivered, newest first, 100 at most.",
			params: letterParams("query"), read: (*Server).deadList},
		{name: "letter", title: "Dead letter", nav: "dead", path: "/dead/:seq", api: "/dead/:seq", summary: "All there is of one dead letter.",
			params: []param{seq}, read: (*Server).letter},
		{name: "requeue", path: "/dead/requeue", api: "/dead/requeue", summary: "Have the events of dead letters delivered again: one, or those that a filter means.",
			params: append([]param{{"seq", "form", "Number of one letter."}, {"all", "form", "true for all there are."}}, letterParams("form")...), act: (*Server).requeue},
		{name: "purge", path: "/dead/purge", api: "/dead/purge", summary: "Delete dead letters for good.",
			params: append([]param{{"seq", "form", "Number of one letter."}, {"all", "form", "true for all there are."}}, letterParams("form")...), act: (*Server).purge},
		{name: "sinks", title: "Sinks", nav: "sinks", path: "/sinks", api: "/sinks", summary: "Where changes go, and what waits for them.", read: (*Server).sinks},
		{name: "pause", path: "/sinks/:sink/pause", api: "/sinks/:sink/pause", summary: "Write nothing more to a sink; what is for it waits.", params: []param{sink}, act: (*Server).pause},
		{name: "resume", path: "/sinks/:sink/resume", api: "/sinks/:sink/resume", summary: "Write to a paused sink again.", params: []param{sink}, act: (*Server).resume},
		{name: "replay", path: "/sinks/:sink/replay", api: "/sinks/:sink/replay", summary: "Deliver records of a company to a sink again.",
			params: []param{sink, {"realm", "form", "Company id."}, {"entity", "form", "Kind of record; empty for all."}, {"since", "form", "From then on, as 2026-11-20 or 2026-11-20T15:04; empty for all."}, {"until", "form", "Before then."}},
			act:    (*Server).replay},
		{name: "budget", title: "Budget", nav: "budget", path: "/budget", api: "/budget", summary: "Metered calls of the month, and their forecast.", read: (*Server).budget},
		{name: "audit", title: "Audit", nav: "audit", path: "/audit", api: "/audit", summary: "Verdicts of the last audits of a company.",
			params: []param{{"realm", "query", "Company id."}}, read: (*Server).audit},
		{name: "actions", title: "Actions", nav: "actions", path: "/actions", api: "/actions", summary: "Who did what, newest first, 100 a page.",
			params: []param{{"skip", "query", "How many of the newest to leave out."}}, read: (*Server).actions},
		{name: "settings", title: "Settings", nav: "settings", path: "/settings", api: "/settings", summary: "Durability, versions and the effective settings, without secrets.", read: (*Server).settings},
		{name: "end-sessions", path: "/sessions/end", api: "/sessions/end", summary: "Log everybody out of the console. Tokens stay valid.", act: (*Server).endSessions},
		{name: "connecting", title: "Connect a company", nav: "connect", path: "/connecting", summary: "Begin the OAuth flow.", read: (*Server).connecting},
		{name: "test", title: "Send a test webhook", nav: "test", path: "/test", summary: "The form for it.", read: (*Server).testForm},
		{name: "send", path: "/test", api: "/test", summary: "Post a signed webhook to the ingress, as Intuit would.",
			params: []param{{"realm", "form", "Company id."}, {"entity", "form", "Kind of record."}, {"id", "form", "Id of a record."}, {"operation", "form", "create, update or delete."}}, act: (*Server).send},
	}
}

// register adds all of them, and those of the OAuth flow.
func (s *Server) register(e *echo.Echo) {
	look, act := s.allow(viewer), []echo.MiddlewareFunc{s.sameSite, s.allow(operator)}
	for _, r := range routes() {
		if r.act != nil {
			if r.path != "" {
				e.POST(r.path, s.acting(r), act...)
			}
			if r.api != "" {
				e.POST(apiBase+r.api, s.acting(r), act...)
			}
			continue
		}
		if r.path != "" {
			e.GET(r.path, s.reading(r), look)
		}
		if r.api != "" {
			e.GET(apiBase+r.api, s.reading(r), look)
		}
		if r.live {
			e.GET("/events"+r.path, s.streaming(r), look)
		}
	}
	e.GET(apiBase+"/openapi.json", func(c echo.Context) error { return c.JSON(http.StatusOK, OpenAPI()) }, look)
	if s.o.Connect != nil {
		e.Use(s.guardConnect)
		s.o.Connect.Register(e.Group(""))
	}
}

// guardConnect puts the login before the routes of the OAuth flow, but for what Intuit
// comes back to: browsers do not send a session along with a redirect from another
// site, and the flow has a binding of its own.
func (s *Server) guardConnect(next echo.HandlerFunc) echo.HandlerFunc {
	guarded, consented := s.allow(operator)(s.noting(next)), action.Consents(s.trail)(next)
	return func(c echo.Context) error {
		switch c.Path() {
		case "/connect/callback":
			return consented(c)
		case "/connect", "/realms/:realm/disconnect", importOnePath, importPath:
			return guarded(c)
		}
		return next(c)
	}
}

// noting writes what changed something to the log of actions.
func (s *Server) noting(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if isForm(c.Request().Header) && c.Path() != importPath {
			if err := s.form(c); err != nil {
				return err
			}
		}
		err := next(c)
		if c.Request().Method == http.MethodPost {
			outcome := "done"
			if status := c.Response().Status; err != nil || status >= http.StatusBadRequest {
				outcome = fmt.Sprintf("failed: status %d", status)
			}
			s.note(c, path.Base(c.Path()), c.Param("realm"), outcome)
		}
		return err
	}
}

func (s *Server) reading(r route) echo.HandlerFunc {
	return func(c echo.Context) error {
		data, err := r.read(s, c)
		if err != nil {
			return err
		}
		if wantsJSON(c) {
			return c.JSON(http.StatusOK, data)
		}
		return s.render(c, http.StatusOK, r.name, r.title, r.nav, data)
	}
}

func (s *Server) acting(r route) echo.HandlerFunc {
	return func(c echo.Context) error {
		if err := s.form(c); err != nil {
			return err
		}
		res, err := r.act(s, c)
		outcome := "done"
		if res.Message != "" {
			outcome = res.Message
		}
		if err != nil {
			_, t := explain(err)
			outcome = "failed: " + t.Error
			if t.Detail != "" {
				outcome += ": " + t.Detail
			}
		}
		s.note(c, r.name, res.On, outcome)
		if err != nil {
			return err
		}
		return s.done(c, res)
	}
}

// liveEvery is how often a page that is open is made anew.
const liveEvery = 5 * time.Second

// writeMax is how long a reader may take for one of them.
const writeMax = 3 * liveEvery

// stillAllowed reports whether the session that a live page was opened with may see it now.
func (s *Server) stillAllowed(c echo.Context) bool {
	id := who(c)
	if id.session == "" {
		return true // a token of this process's settings, or no login
	}
	id, err := s.sessions.check(c.Request().Context(), id.session)
	return err == nil && id.Role >= viewer
}

// streaming sends the live part of a page again and again, for as long as the login that
// began it may see the page.
func (s *Server) streaming(r route) echo.HandlerFunc {
	return func(c echo.Context) error {
		leave, ok := s.streams.enter(who(c))
		if !ok {
			s.metrics.refused.WithLabelValues("streams").Inc()
			return problem(http.StatusTooManyRequests, "Too many live pages", "Close some of the pages that are open.")
		}
		defer leave()
		w := c.Response()
		w.Header().Set(echo.HeaderContentType, "text/event-stream")
		w.Header().Set("X-Accel-Buffering", "no")
		deadline(c, time.Now().Add(writeMax))
		w.WriteHeader(http.StatusOK)
		w.Flush()
		tick := time.NewTicker(liveEvery)
		defer tick.Stop()
		for {
			select {
			case <-c.Request().Context().Done():
				return nil
			case <-s.stopping.Done():
				return nil
			case <-tick.C:
			}
			if !s.stillAllowed(c) {
				return nil
			}
			deadline(c, time.Now().Add(writeMax))
			data, err := r.read(s, c)
			if err != nil {
				return nil // the page keeps what it shows, and connects again
			}
			var part bytes.Buffer
			if err := s.templates[r.name].ExecuteTemplate(&part, "live", s.shown(c, r.title, r.nav, data)); err != nil {
				return fmt.Errorf("write the live part of %s: %w", r.name, err)
			}
			for line := range strings.Lines(part.String()) {
				if _, err := fmt.Fprintf(w, "data: %s\n", strings.TrimRight(line, "\r\n")); err != nil {
					return nil
				}
			}
			if _, err := fmt.Fprint(w, "\n"); err != nil {
				return nil
			}
			w.Flush()
		}
	}
}

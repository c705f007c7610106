package console

import (
	"html/template"
	"net/http"
	"net/url"
	"strings"

	"github.com/labstack/echo/v4"
)

const identityKey = "identity"

// who is who is asking; allow has found out.
func who(c echo.Context) identity {
	id, _ := c.Get(identityKey).(identity)
	return id
}

// identify finds out who is asking: by bearer token, by session, or anybody on this
// machine where there is no login.
func (s *Server) identify(c echo.Context) (identity, error) {
	if !s.o.Config.login() {
		return identity{Who: "local", Role: operator}, nil
	}
	r := c.Request()
	token, ok := strings.CutPrefix(r.Header.Get(echo.HeaderAuthorization), "Bearer ")
	if !ok {
		return s.sessions.read(r)
	}
	id := s.o.Config.byToken(token)
	if id.Role == nobody {
		return id, s.wrongCredential(c, byBearer, "unknown token")
	}
	return id, nil
}

// allow lets those through who have the role.
func (s *Server) allow(least role) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			id, err := s.identify(c)
			if err != nil {
				return err
			}
			c.Set(identityKey, id)
			switch {
			case id.Role >= least:
				return next(c)
			case id.Role > nobody:
				s.refused(c, attempt(c), "viewers change nothing")
				return problem(http.StatusForbidden, "Not allowed", "You are logged in as a viewer, and this is for operators. Log in with the operator's token.")
			case wantsJSON(c):
				return problem(http.StatusUnauthorized, "Not logged in", "Send the token as Authorization: Bearer TOKEN.")
			case c.Request().Method == http.MethodGet && c.Request().Header.Get("Sec-Fetch-Site") == "cross-site":
				return again(c)
			case c.Request().Method == http.MethodGet:
				return c.Redirect(http.StatusSeeOther, "/login?next="+url.QueryEscape(c.Request().URL.RequestURI()))
			}
			return c.Redirect(http.StatusSeeOther, "/login")
		}
	}
}

// again has the browser ask once more: it does not send a session along with a link or a
// redirect from another site, such as Intuit's after a consent, but it does with what a
// page of ours leads to.
func again(c echo.Context) error {
	target := template.HTMLEscapeString(ownPath(c.Request().URL.RequestURI()))
	return c.HTML(http.StatusOK, `<!doctype html><html lang="en"><title>Ledgerfeed</title><meta http-equiv="refresh" content="0;url=`+target+`"><p><a href="`+target+`">Go on</a></p></html>`)
}

// sameSite refuses what the page of another site sends in a person's name.
func (s *Server) sameSite(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if err := s.origins.Check(c.Request()); err != nil {
			s.refused(c, attempt(c), "sent by the page of another site")
			return problem(http.StatusForbidden, "Not from here", "This request came from the page of another site. Open the page here and try again.")
		}
		return next(c)
	}
}

// loginView is the login page.
type loginView struct {
	Next  string
	Wrong bool
	Token bool
	OIDC  bool
}

func (s *Server) loginPage(c echo.Context) error {
	id, err := s.identify(c)
	switch {
	case err != nil:
		return err
	case id.Role > nobody:
		return c.Redirect(http.StatusSeeOther, "/")
	}
	return s.showLogin(c, http.StatusOK, false)
}

func (s *Server) showLogin(c echo.Context, status int, wrong bool) error {
	v := loginView{Next: ownPath(c.FormValue("next")), Wrong: wrong, Token: s.o.Config.Token != "" || s.o.Config.ViewerToken != "", OIDC: s.oidc != nil}
	return s.render(c, status, "login", "Log in", "", v)
}

func (s *Server) login(c echo.Context) error {
	if err := s.form(c); err != nil {
		return err
	}
	token := strings.TrimSpace(c.FormValue("token"))
	id := s.o.Config.byToken(token)
	if id.Role == nobody {
		if err := s.wrongCredential(c, byTokenForm, "unknown token"); err != nil {
			return err
		}
		return s.showLogin(c, http.StatusUnauthorized, true)
	}
	if err := s.begin(c, byTokenForm, id.Role, record{Who: id.Who, Token: s.sessions.markOf(token)}); err != nil {
		return err
	}
	return c.Redirect(http.StatusSeeOther, ownPath(c.FormValue("next")))
}

// begin gives the browser a session of its own in place of the one it may have.
func (s *Server) begin(c echo.Context, method string, role role, r record) error {
	if err := s.sessions.end(c.Request()); err != nil {
		return err
	}
	cookie, err := s.sessions.create(c.Request().Context(), r)
	if err != nil {
		return err
	}
	c.SetCookie(cookie)
	s.recordLogin(c, loginEvent{Outcome: loginOK, Method: method, Who: r.Who, Role: role})
	return nil
}

// logout ends the session, also for those who have copied the cookie.
func (s *Server) logout(c echo.Context) error {
	id, err := s.sessions.read(c.Request())
	if err != nil {
		return err
	}
	if err := s.sessions.end(c.Request()); err != nil {
		return err
	}
	c.SetCookie(s.sessions.set(sessionCookie, "", 0))
	if id.Role > nobody {
		s.recordLogin(c, loginEvent{Outcome: loggedOut, Method: "session", Who: id.Who, Role: id.Role})
	}
	return c.Redirect(http.StatusSeeOther, "/login")
}

// endSessions logs everybody out.
func (s *Server) endSessions(c echo.Context) (result, error) {
	r := result{On: "all sessions", Back: "/login"}
	if err := s.o.State.EndSessions(c.Request().Context()); err != nil {
		return r, err
	}
	r.Message = "All sessions have ended. Log in again."
	return r, nil
}

// ownPath is a path of the console, never another site.
func ownPath(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(u.Path, "/") || strings.HasPrefix(u.Path, "//") || strings.Contains(next, "\\") {
		return "/"
	}
	return u.RequestURI()
}

func origin(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	return u.Scheme + "://" + u.Host
}

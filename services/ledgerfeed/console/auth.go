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
func (s *Server) identify(r *http.Request) identity {
	if !s.o.Config.login() {
		return identity{Who: "local", Role: operator}
	}
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return s.o.Config.byToken(token)
	}
	return s.sessions.read(r)
}

// allow lets those through who have the role.
func (s *Server) allow(least role) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			id := s.identify(c.Request())
			c.Set(identityKey, id)
			switch {
			case id.Role >= least:
				return next(c)
			case id.Role > nobody:
				s.refused(c, attempt(c), "viewers change nothing")
				return problem(http.StatusForbidden, "Not allowed", "You are logged in as a viewer, and this is for operators. Log in with the operator's token.")
			case wantsJSON(c):
				if c.Request().Header.Get("Authorization") != "" {
					s.refused(c, attempt(c), "wrong token")
				}
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
	if s.identify(c.Request()).Role > nobody {
		return c.Redirect(http.StatusSeeOther, "/")
	}
	return s.showLogin(c, http.StatusOK, false)
}

func (s *Server) showLogin(c echo.Context, status int, wrong bool) error {
	v := loginView{Next: ownPath(c.FormValue("next")), Wrong: wrong, Token: s.o.Config.Token != "" || s.o.Config.ViewerToken != "", OIDC: s.oidc != nil}
	return s.render(c, status, "login", "Log in", "", v)
}

func (s *Server) login(c echo.Context) error {
	if !s.logins.Allow() {
		s.refused(c, "login", "too many logins")
		return problem(http.StatusTooManyRequests, "Too many logins", "Wait some seconds and try again.")
	}
	id := s.o.Config.byToken(strings.TrimSpace(c.FormValue("token")))
	if id.Role == nobody {
		s.refused(c, "login", "wrong token")
		return s.showLogin(c, http.StatusUnauthorized, true)
	}
	s.noteAs(c, id, "login", "done")
	c.SetCookie(s.sessions.cookie(id))
	return c.Redirect(http.StatusSeeOther, ownPath(c.FormValue("next")))
}

func (s *Server) logout(c echo.Context) error {
	if id := s.identify(c.Request()); id.Role > nobody {
		s.noteAs(c, id, "logout", "done")
	}
	c.SetCookie(s.sessions.set(sessionCookie, "", 0))
	return c.Redirect(http.StatusSeeOther, "/login")
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

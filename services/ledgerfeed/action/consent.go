package action

import (
	"fmt"
	"net"
	"net/http"
	"path"
	"regexp"

	"github.com/labstack/echo/v4"
)

var digits = regexp.MustCompile(`^[0-9]{1,32}$`)

// Consents records what comes of consents, and of what else the pages of the package
// connect do. The browser that Intuit sends back has no session: the company's owner is
// who acted.
func Consents(t *Trail) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			err := next(c)
			e := Entry{Who: "owner, by consent", Via: Connect, From: From(c), What: "connect", Request: c.Response().Header().Get(echo.HeaderXRequestID)}
			realm := c.QueryParam("realmId")
			switch {
			case c.Path() == "/connect/callback":
			case c.Request().Method == http.MethodPost:
				e.Who, e.What, realm = "local", path.Base(c.Path()), c.Param("realm")
			default:
				return err
			}
			if digits.MatchString(realm) {
				e.On = "realm " + realm
			}
			if status := c.Response().Status; err != nil || status >= http.StatusBadRequest {
				e.Outcome = fmt.Sprintf("refused: status %d", status)
				t.Refuse(e)
				return err
			}
			e.Outcome = "done"
			t.Record(c.Request().Context(), e)
			return err
		}
	}
}

// From is the address that a request comes from: what a proxy says of it counts only
// where the server was told to believe it.
func From(c echo.Context) string {
	if c.Echo().IPExtractor != nil {
		return c.RealIP()
	}
	host, _, err := net.SplitHostPort(c.Request().RemoteAddr)
	if err != nil {
		return c.Request().RemoteAddr
	}
	return host
}

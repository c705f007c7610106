// Package loopback protects servers without a login, which are for the people of one
// machine alone.
//
// A reverse proxy on that machine reaches a loopback address too, and the whole internet
// through it. Proxies say that they forward a request; [DirectOnly] refuses every request
// that says so. It cannot detect a proxy that adds no header at all: such a server needs a
// login.
package loopback

import (
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"
)

// DirectOnly is a middleware that answers 403 to requests that a proxy has forwarded. The
// answer says remedy, which is a whole sentence: what the operator does to serve such
// requests.
func DirectOnly(remedy string) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			if name := Forwarded(c.Request()); name != "" {
				return echo.NewHTTPError(http.StatusForbidden, "this server has no login and takes no requests through a proxy (header "+name+"). "+remedy)
			}
			return next(c)
		}
	}
}

// Forwarded is the name of a header that only a forwarded request has, "" if there is none.
// A header with an empty value counts.
func Forwarded(r *http.Request) string {
	for name := range r.Header {
		switch {
		case name == "Forwarded", name == "Via", name == "X-Real-Ip", strings.HasPrefix(name, "X-Forwarded"):
			return name
		}
	}
	return ""
}

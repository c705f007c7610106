package connect

import (
	"net/http"
	"strings"
	"unicode"

	"github.com/labstack/echo/v4"
	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// problem is an outcome that a person must be told.
type problem struct {
	status int
	code   string // for programs
	title  string
	text   string // what to do
	cause  error  // for the log; never shown
	forget string // a realm that can be forgotten instead
	tid    string // Intuit's id of the call
	warn   bool   // the cause concerns the operator, whatever the status
}

// failed is a problem in JSON.
type failed struct {
	Error struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

func badRealm() *problem {
	return &problem{status: http.StatusBadRequest, code: "bad_realm", title: "No company id", text: "The id of a company (realmId) is digits only."}
}

func unavailable(err error) *problem {
	return &problem{status: http.StatusServiceUnavailable, code: "unavailable", title: "Not now", text: "Ledgerfeed cannot reach its own store. Try again in a while.", cause: err}
}

// fail tells the person, and the log what it was.
func (h *Handler) fail(c echo.Context, p *problem) error {
	fields := []zap.Field{telemetry.Reason(p.code), telemetry.Status(p.status)}
	if p.cause != nil {
		fields = append(fields, telemetry.Error(p.cause))
	}
	if p.tid != "" {
		fields = append(fields, telemetry.TID(p.tid))
	}
	if p.warn || p.status >= http.StatusInternalServerError {
		h.log.Warn("company not connected", fields...)
	} else {
		h.log.Info("company not connected", fields...)
	}
	noStore(c)
	if wantsJSON(c) {
		var out failed
		out.Error.Code, out.Error.Message = p.code, p.text
		return c.JSON(p.status, out)
	}
	return h.page(c, p.status, view{Problem: p})
}

// wantsJSON: a program is asking, not a browser.
func wantsJSON(c echo.Context) bool {
	accept := c.Request().Header.Get(echo.HeaderAccept)
	return strings.Contains(accept, "json") && !strings.Contains(accept, "text/html")
}

// noStore: codes and states stand in these addresses.
func noStore(c echo.Context) {
	header := c.Response().Header()
	header.Set("Cache-Control", "no-store")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Content-Type-Options", "nosniff")
}

// printable is at most 60 harmless characters of what a stranger sent.
func printable(s string) string {
	clean := strings.Map(func(r rune) rune {
		if r > unicode.MaxASCII || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	return clean[:min(len(clean), 60)]
}

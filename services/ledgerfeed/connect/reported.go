package connect

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// reported is where Intuit sends an owner who has disconnected the app (the portal's
// Disconnect URL). Anybody can come here with any company: its token is checked soon, and
// the answer is the same whatever is known of it.
func (h *Handler) reported(c echo.Context) error {
	realm := c.QueryParam("realmId")
	if realm == "" {
		realm = c.QueryParam("realm")
	}
	if realmID.MatchString(realm) && h.checks.Allow() {
		if err := h.Connections.CheckSoon(c.Request().Context(), realm); err != nil {
			h.log.Warn("reported disconnect not checked; a scan will find it", telemetry.Realm(realm), telemetry.Error(err))
		}
	}
	noStore(c)
	if wantsJSON(c) {
		return c.JSON(http.StatusOK, map[string]string{"outcome": "noted"})
	}
	return h.page(c, http.StatusOK, view{Reported: true})
}

package connect

import (
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
)

// begun is the answer in JSON.
type begun struct {
	AuthorizeURL string    `json:"authorize_url"`
	ExpiresAt    time.Time `json:"expires_at"`
}

// begin sends the browser to Intuit's consent page.
func (h *Handler) begin(c echo.Context) error {
	realm := c.QueryParam("realm")
	if realm == "" {
		realm = c.QueryParam("realmId") // as Intuit spells it
	}
	switch {
	case realm != "" && !realmID.MatchString(realm):
		return h.fail(c, badRealm())
	case !h.begun.Allow():
		return h.fail(c, &problem{status: http.StatusTooManyRequests, code: "too_many", title: "Too many at once", text: "Many companies are being connected at this moment. Try again in some seconds."})
	}
	browser, err := h.browser(c)
	if err != nil {
		return err
	}
	state, err := h.Connections.BeginConsent(c.Request().Context(), connection.Consent{Browser: browser.digest(), RealmID: realm})
	if err != nil {
		return h.fail(c, unavailable(err))
	}
	target := h.OAuth.AuthorizeURL(state, h.verifier(browser, state))
	noStore(c)
	if wantsJSON(c) {
		return c.JSON(http.StatusOK, begun{AuthorizeURL: target, ExpiresAt: time.Now().UTC().Add(connection.ConsentTime).Truncate(time.Second)})
	}
	return c.Redirect(http.StatusSeeOther, target)
}

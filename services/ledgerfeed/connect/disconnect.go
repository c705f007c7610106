package connect

import (
	"context"
	"errors"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
)

// disconnected is the answer in JSON.
type disconnected struct {
	Realm   string `json:"realm"`
	State   string `json:"state"`
	Revoked bool   `json:"revoked"` // Intuit has confirmed it
	// Note says what is to be done where Intuit has not.
	Note string `json:"note,omitempty"`
}

// askDisconnect shows what a disconnect does.
func (h *Handler) askDisconnect(c echo.Context) error {
	conn, p := h.realm(c)
	if p != nil {
		return h.fail(c, p)
	}
	noStore(c)
	return h.page(c, http.StatusOK, view{Ask: &conn})
}

// disconnect revokes the tokens at Intuit and forgets them. With forget=true they
// are forgotten although Intuit does not answer.
func (h *Handler) disconnect(c echo.Context) error {
	conn, p := h.realm(c)
	if p != nil {
		return h.fail(c, p)
	}
	out := disconnected{Realm: conn.RealmID, State: string(connection.Disconnected)}
	var err error
	if forget := c.FormValue("forget"); forget == "true" {
		err = h.Connections.Disconnect(c.Request().Context(), conn.RealmID)
	} else {
		// To its end, whether or not the browser waits.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Request().Context()), exchangeTime)
		defer cancel()
		out.Revoked, err = h.Connections.Revoke(ctx, conn.RealmID, connection.Disconnected, "disconnected by request", h.OAuth)
	}
	if !out.Revoked {
		out.Note = "The authorisation may still be active at Intuit: " + connection.OwnerEnds + "."
	}
	if err != nil {
		return h.fail(c, &problem{status: http.StatusBadGateway, code: "not_revoked", title: "Not disconnected", text: "The tokens could not be revoked at Intuit or not be forgotten here. Try again in a while, or forget them here only and have the owner disconnect the app in QuickBooks.", cause: err, forget: conn.RealmID})
	}
	noStore(c)
	if wantsJSON(c) {
		return c.JSON(http.StatusOK, out)
	}
	return h.page(c, http.StatusOK, view{Disconnected: &out})
}

// realm is the one of the path.
func (h *Handler) realm(c echo.Context) (connection.Connection, *problem) {
	realm := c.Param("realm")
	if !realmID.MatchString(realm) {
		return connection.Connection{}, badRealm()
	}
	conn, err := h.Connections.Get(c.Request().Context(), realm)
	switch {
	case errors.Is(err, connection.ErrNotConnected):
		return conn, &problem{status: http.StatusNotFound, code: "not_connected", title: "No such company", text: "Company " + realm + " was never connected."}
	case err != nil && conn.RealmID == "":
		return conn, unavailable(err)
	}
	return conn, nil // one whose token does not open can be forgotten all the same
}

package console

import (
	"errors"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
)

// approveRealm connects a company whose consent waits.
func (s *Server) approveRealm(c echo.Context) (result, error) {
	id, back, err := s.known(c)
	r := result{On: "realm " + id, Back: back}
	if err == nil {
		err = s.o.Connections.Approve(c.Request().Context(), id)
	}
	if err != nil {
		return r, nothingHeld(id, err)
	}
	r.Message = "The company is connected. It is scanned now."
	return r, nil
}

// rejectRealm gives a consent that waits back to Intuit.
func (s *Server) rejectRealm(c echo.Context) (result, error) {
	id, back, err := s.known(c)
	r := result{On: "realm " + id, Back: back}
	if err == nil && s.o.Connect == nil {
		err = problem(http.StatusConflict, "Not here", "Set qbo.redirect_url for the console, or use ledgerfeed realm reject.")
	}
	confirmed := false
	if err == nil {
		confirmed, err = s.o.Connections.Reject(c.Request().Context(), id, s.o.Connect.OAuth)
	}
	if err != nil {
		return r, nothingHeld(id, err)
	}
	r.Message = "The consent is rejected and revoked at Intuit."
	if !confirmed {
		r.Message = "The consent is rejected. Intuit does not know its token: " + connection.OwnerEnds + "."
	}
	return r, nil
}

func nothingHeld(id string, err error) error {
	if errors.Is(err, connection.ErrNothingHeld) {
		return problem(http.StatusConflict, "Nothing to decide", "No consent of realm "+id+" waits for approval.")
	}
	return err
}

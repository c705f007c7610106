package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// deletionsView is the page Deletions.
type deletionsView struct {
	Deletions []state.HeldDeletion `json:"deletions"`
	Companies map[string]string    `json:"companies,omitempty"`
}

func (s *Server) deletions(c echo.Context) (any, error) {
	ctx := c.Request().Context()
	all, err := s.o.State.HeldDeletions(ctx)
	if err != nil {
		return nil, err
	}
	names, err := companies(ctx, s, all, func(h state.HeldDeletion) string { return h.Realm })
	return deletionsView{all, names}, err
}

func (s *Server) approve(c echo.Context) (result, error) {
	return s.decide(c, s.o.State.ApproveDeletion, func(ctx context.Context, h state.HeldDeletion) (string, error) {
		return fmt.Sprintf("%d deletions of %s are approved. The company is scanned now: what QuickBooks still does not return is deleted.", h.Count, h.Entity),
			s.o.State.Schedule(ctx, h.Realm, s.o.Now())
	})
}

func (s *Server) reject(c echo.Context) (result, error) {
	return s.decide(c, s.o.State.RejectDeletion, func(_ context.Context, h state.HeldDeletion) (string, error) {
		return fmt.Sprintf("%d deletions of %s are rejected. The records stay.", h.Count, h.Entity), nil
	})
}

// decide approves or rejects the held deletions of the path.
func (s *Server) decide(c echo.Context, as func(ctx context.Context, realm, entity, by string) (state.HeldDeletion, error),
	then func(context.Context, state.HeldDeletion) (string, error),
) (result, error) {
	ctx, id, kind := c.Request().Context(), c.Param("realm"), c.Param("entity")
	r := result{On: "realm " + id + " " + kind, Back: "/deletions"}
	h, err := as(ctx, id, kind, who(c).Who+": console")
	if errors.Is(err, state.ErrNotHeld) {
		return r, problem(http.StatusConflict, "Nothing to decide", "No deletions of "+kind+" of realm "+id+" are held. The page Deletions lists those that are.")
	}
	if err != nil {
		return r, err
	}
	r.Message, err = then(ctx, h)
	return r, err
}

package console

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// jobView is a scan that somebody asked for, or a first load, and how far it is.
type jobView struct {
	state.Job
	Rate float64 `json:"records_per_second"`
	Left float64 `json:"left_seconds,omitempty"`
	Verb string  `json:"-"` // scan or backfill
}

// job is the last one of a realm; nil without one in the last seven days.
func (s *Server) job(ctx context.Context, realm string) (*jobView, error) {
	j, err := s.o.State.Job(ctx, realm)
	if errors.Is(err, state.ErrNoJob) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	now := s.o.Now()
	v := jobView{Job: j, Rate: j.Rate(now), Left: j.Left(now).Seconds(), Verb: "Scan"}
	if j.Load {
		v.Verb = "Backfill"
	}
	return &v, nil
}

func (s *Server) scan(c echo.Context) (result, error) { return s.ask(c, false) }

func (s *Server) backfill(c echo.Context) (result, error) { return s.ask(c, true) }

// ask has a reconciler scan a company, or load it from the beginning.
func (s *Server) ask(c echo.Context, load bool) (result, error) {
	ctx := c.Request().Context()
	id, back, err := s.known(c)
	r := result{On: "realm " + id, Back: back}
	if err != nil {
		return r, err
	}
	var names []string
	if name := c.FormValue("entity"); name != "" {
		if !slices.Contains(scannable(), name) {
			return r, problem(http.StatusBadRequest, "No such kind of record", "Name one as the API of QuickBooks does, such as Invoice.")
		}
		names = []string{name}
		r.On += " " + name
	}
	running, err := s.o.State.Replicas(ctx, "reconciler")
	if err != nil {
		return r, err
	}
	j, fresh, err := s.o.State.Ask(ctx, state.Job{Realm: id, Entities: names, Load: load, By: who(c).Who + ": console"})
	if err != nil {
		return r, err
	}
	if !fresh {
		return r, problem(http.StatusConflict, "A scan is under way",
			"The one of realm "+id+", asked for by "+j.By+" at "+j.Requested.UTC().Format(time.TimeOnly)+" UTC, is "+string(j.State)+". Wait until it is over, or cancel it.")
	}
	what := "A scan"
	if load {
		what = "A backfill"
	}
	r.Message = what + " is asked for; a reconciler begins within some seconds, and the page of the company shows how far it is."
	if len(running) == 0 {
		r.Message = what + " is asked for, but no reconciler is running: it begins when one is started."
	}
	r.Data = map[string]any{"scan": j}
	return r, nil
}

// cancel ends the scan of a company that somebody asked for.
func (s *Server) cancel(c echo.Context) (result, error) {
	id, back, err := s.known(c)
	r := result{On: "realm " + id, Back: back}
	if err != nil {
		return r, err
	}
	j, err := s.o.State.Cancel(c.Request().Context(), id)
	if errors.Is(err, state.ErrNoJob) || err == nil && j.State.Over() {
		return r, problem(http.StatusConflict, "Nothing to cancel", "No scan of realm "+id+" that somebody asked for is under way.")
	}
	r.Message = "The scan ends within some seconds. What it had delivered stays; no cursor has moved."
	return r, err
}

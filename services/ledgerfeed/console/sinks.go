package console

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/replay"
)

// sinkRow is a sink.
type sinkRow struct {
	Sink    string `json:"sink"`
	Paused  bool   `json:"paused"`
	Breaker string `json:"breaker"` // closed, half open, open, or unknown where metrics are not scraped
	Waiting uint64 `json:"waiting"` // messages on its retry queue
	// Of a sink that is down.
	Error    string     `json:"error,omitempty"` // of the last write
	Since    *time.Time `json:"since,omitempty"`
	Failures int        `json:"failures,omitempty"` // in a row
	Next     *time.Time `json:"next_try,omitempty"`
}

// sinksView is the page Sinks.
type sinksView struct {
	Sinks   []sinkRow   `json:"sinks"`
	Replays []replayRow `json:"replays"`
	Kinds   []string    `json:"-"`
}

func (s *Server) sinks(c echo.Context) (any, error) {
	ctx := c.Request().Context()
	names, err := s.o.State.Sinks(ctx)
	if err != nil {
		return nil, err
	}
	paused, err := s.o.State.PausedSinks(ctx)
	if err != nil {
		return nil, err
	}
	v := sinksView{Sinks: []sinkRow{}, Replays: s.replays.list(), Kinds: scannable()}
	for _, name := range names {
		lag, err := s.o.Stream.Lag(ctx, stream.Retry(name), stream.RetryDurable(durable, name))
		if err != nil {
			return nil, err
		}
		row := sinkRow{Sink: name, Paused: slices.Contains(paused, name), Waiting: lag.Pending + lag.AckPending, Breaker: "unknown"}
		if families := s.sampler.metrics.Load(); families != nil {
			if state, ok := gauge(*families, "ledgerfeed_processor_sink_state", "sink", name); ok {
				row.Breaker = map[float64]string{0: "closed", 1: "half open", 2: "open", 3: "paused"}[state]
			}
		}
		troubles, err := s.o.State.SinkTroubles(ctx, name)
		if err != nil {
			return nil, err
		}
		if len(troubles) > 0 {
			t := troubles[0]
			row.Error, row.Since, row.Failures, row.Next = t.Error, &t.Since, t.Failures, &t.Next
		}
		v.Sinks = append(v.Sinks, row)
	}
	return v, nil
}

// sink is the one of the path, which must be known.
func (s *Server) sink(c echo.Context) (result, string, error) {
	name := c.Param("sink")
	r := result{On: "sink " + name, Back: "/sinks"}
	names, err := s.o.State.Sinks(c.Request().Context())
	if err == nil && !slices.Contains(names, name) {
		err = problem(http.StatusNotFound, "No such sink", "The page Sinks lists those of processor.sinks.")
	}
	return r, name, err
}

func (s *Server) pause(c echo.Context) (result, error) {
	r, name, err := s.sink(c)
	if err != nil {
		return r, err
	}
	r.Message = "Sink " + name + " is paused within some seconds. What is for it waits on its retry queue."
	return r, s.o.State.PauseSink(c.Request().Context(), name)
}

func (s *Server) resume(c echo.Context) (result, error) {
	r, name, err := s.sink(c)
	if err != nil {
		return r, err
	}
	r.Message = "Sink " + name + " is resumed. It has what waited for it within a minute or so."
	return r, s.o.State.ResumeSink(c.Request().Context(), name)
}

func (s *Server) replay(c echo.Context) (result, error) {
	r, name, err := s.sink(c)
	if err != nil {
		return r, err
	}
	o := replay.Options{Stream: s.o.Stream, QBO: s.o.QBO, Realm: c.FormValue("realm"), Sink: name}
	r.On += " realm " + o.Realm
	conn, err := s.o.Connections.Listed(c.Request().Context(), o.Realm)
	if err != nil {
		return r, err
	}
	if conn.State != connection.Live {
		return r, problem(http.StatusConflict, "It cannot be read", fmt.Sprintf("%v. To mend it: %s.", conn.Unusable(), conn.State.Remedy()))
	}
	if kind := c.FormValue("entity"); kind != "" {
		if !slices.Contains(scannable(), kind) {
			return r, problem(http.StatusBadRequest, "No such kind of record", "Name one as the API of QuickBooks does, such as Invoice.")
		}
		o.Entities = []string{kind}
	}
	if o.Since, err = moment(c.FormValue("since")); err != nil {
		return r, err
	}
	if o.Until, err = moment(c.FormValue("until")); err != nil {
		return r, err
	}
	if !o.Since.IsZero() && !o.Until.IsZero() && !o.Since.Before(o.Until) {
		return r, problem(http.StatusBadRequest, "An empty range", "Give a beginning that is before the end.")
	}
	company, err := s.companyOf(c.Request().Context(), o.Realm)
	if err != nil {
		return r, err
	}
	if !s.replays.start(s.stopping, o, company, s.log) {
		return r, problem(http.StatusConflict, "A replay is under way", "One of that company to that sink runs already. Wait until it is over.")
	}
	r.Message = "The replay has begun; this page shows how far it is."
	return r, nil
}

// moment is a time as a form has it, of UTC; zero for "".
func moment(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.DateOnly, "2006-01-02T15:04", "2006-01-02T15:04:05", time.RFC3339} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, problem(http.StatusBadRequest, "No such time", fmt.Sprintf("%q is no time: give 2026-11-20, or 2026-11-20T15:04, of UTC.", text))
}

// replayRow is a replay, under way or over.
type replayRow struct {
	Realm     string    `json:"realm"`
	Company   string    `json:"company,omitempty"`
	Sink      string    `json:"sink"`
	Began     time.Time `json:"began"`
	Running   bool      `json:"running"`
	Entity    string    `json:"entity,omitempty"`
	Records   int       `json:"records"`
	Deletions int       `json:"deletions"`
	Calls     int       `json:"calls"`
	Error     string    `json:"error,omitempty"`
	Notes     []string  `json:"notes,omitempty"`
}

// replays are those of this process, the last twenty.
type replays struct {
	running sync.WaitGroup

	mu  sync.Mutex // guards all and what is in it
	all []*replayRow
}

const maxReplays = 20

func newReplays() *replays { return &replays{} }

func (r *replays) list() []replayRow {
	r.mu.Lock()
	defer r.mu.Unlock()
	rows := make([]replayRow, 0, len(r.all))
	for _, x := range slices.Backward(r.all) {
		rows = append(rows, *x)
	}
	return rows
}

// start begins one unless the same runs already.
func (r *replays) start(ctx context.Context, o replay.Options, company string, log *zap.Logger) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.ContainsFunc(r.all, func(x *replayRow) bool { return x.Running && x.Realm == o.Realm && x.Sink == o.Sink }) {
		return false
	}
	row := &replayRow{Realm: o.Realm, Company: company, Sink: o.Sink, Began: time.Now().UTC(), Running: true}
	r.all = append(r.all, row)
	r.all = r.all[max(0, len(r.all)-maxReplays):]
	show := func(res replay.Result) {
		r.mu.Lock()
		defer r.mu.Unlock()
		row.Entity, row.Records, row.Deletions, row.Calls, row.Notes = res.Entity, res.Records, res.Deletions, res.Calls, res.Notes
	}
	o.Progress = show
	r.running.Go(func() {
		res, err := replay.Run(ctx, o)
		show(res)
		r.mu.Lock()
		defer r.mu.Unlock()
		if row.Running = false; err != nil {
			row.Error = "it did not come to its end; begin it again"
			log.Warn("replay ended early", zap.String("sink", o.Sink), zap.Error(err))
		}
	})
	return true
}

func (r *replays) wait() { r.running.Wait() }

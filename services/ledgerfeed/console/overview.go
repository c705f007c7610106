package console

import (
	"time"

	"github.com/labstack/echo/v4"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/diagnosis"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/realmstatus"
)

// overviewView is the page Overview.
type overviewView struct {
	Rate     *float64 `json:"changes_per_second"`     // null: not known yet
	Oldest   *float64 `json:"oldest_unacked_seconds"` // 0: none waits
	Backlog  *float64 `json:"backlog"`                // messages on the event stream
	AckP99   *float64 `json:"ack_p99_seconds"`        // null: not scraped, or nothing came
	SinkP95  *float64 `json:"change_to_sink_p95_seconds"`
	Coverage float64  `json:"webhook_coverage"` // of seven days, 0 to 1
	Changes  int64    `json:"changes_7d"`
	Dead     *float64 `json:"dead_letters"`

	Realms   map[realmstatus.State]int `json:"realms,omitempty"` // null: being counted
	Total    int                       `json:"realms_total"`
	Calls    int64                     `json:"calls_month"`
	Forecast int64                     `json:"calls_forecast"`
	Allowed  int64                     `json:"calls_allowed"`
	Findings []diagnosis.Issue         `json:"findings"`

	Range   string              `json:"range"`
	Samples []state.Sample      `json:"samples"`
	Charts  []chart             `json:"-"`
	States  []realmstatus.State `json:"-"`
	Paused  []string            `json:"paused_sinks"`
	Held    int                 `json:"held_deletions"`
}

const coverageDays = 7

func (s *Server) overview(c echo.Context) (any, error) {
	ctx, now := c.Request().Context(), s.o.Now()
	v := overviewView{Range: c.QueryParam("range"), States: realmstatus.States()}
	series := state.HourSeries()
	if v.Range == "day" {
		series = state.DaySeries()
	} else {
		v.Range = "hour"
	}
	var err error
	if v.Samples, err = s.o.State.Samples(ctx, series, now); err != nil {
		return nil, err
	}
	v.Charts = charts(v.Samples, series, now)
	if latest := s.sampler.latest(now); latest != nil {
		v.Rate, v.Oldest, v.Backlog = value(latest, valueRate), value(latest, valueOldest), value(latest, valueBacklog)
		v.AckP99, v.SinkP95, v.Dead = value(latest, valueAck), value(latest, valueSink), value(latest, valueDead)
	}
	days, err := s.o.State.DailyCoverage(ctx, coverageDays)
	if err != nil {
		return nil, err
	}
	all := state.Coverage{}
	for _, d := range days {
		all.Merge(d)
	}
	total := all.Total()
	v.Coverage, v.Changes = total.Coverage(), total.Told+total.Gaps
	if sum := s.sampler.summary.Load(); sum != nil {
		v.Realms, v.Total = sum.Counts, sum.Total
	}
	v.Findings = s.sampler.findings()
	usage, err := s.o.Budget.Usage(ctx)
	if err != nil {
		return nil, err
	}
	v.Calls, v.Forecast, v.Allowed = usage.Total(), usage.Forecast, usage.Budget
	if v.Paused, err = s.o.State.PausedSinks(ctx); err != nil {
		return nil, err
	}
	held, err := s.o.State.HeldDeletions(ctx)
	for _, h := range held {
		if h.State == state.DeletionHeld {
			v.Held += h.Count
		}
	}
	return v, err
}

func value(x *state.Sample, name string) *float64 {
	if v, ok := x.Values[name]; ok {
		return &v
	}
	return nil
}

// charts are those of the page, from samples of a series that ends at now.
func charts(samples []state.Sample, r state.Series, now time.Time) []chart {
	from := now.Add(-time.Duration(r.Size) * r.Step)
	var all []chart
	for _, c := range []struct{ title, unit, value string }{
		{"Changes a second", "", valueRate}, {"Oldest unacknowledged event", "s", valueOldest},
		{"Waiting messages", "", valueBacklog}, {"Change to sink, p95", "s", valueSink},
	} {
		all = append(all, newChart(c.title, c.unit, c.value, samples, from, now, 3*r.Step))
	}
	return all
}

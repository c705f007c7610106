package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

type budgetCmd struct {
	Month string `placeholder:"YYYY-MM" help:"Month to show by day (default: the current one); 70 days are kept."`
	Top   int    `default:"10" placeholder:"N" help:"List the N companies with the most calls today (${default})."`
	JSON  bool   `help:"Print one JSON object."`
}

// Help is the long help of the command.
func (budgetCmd) Help() string {
	return `Shows how many metered calls (CorePlus: reads and queries that succeeded) the app has made this month, live and
backfill, what they will be at its end if the days to come are as the last seven, what LEDGERFEED_QBO_MONTHLY_CALLS
allows, how many calls a company takes a day, and which take the most. Months and days are of UTC. The last tenth
of the bound is kept for live changes.

Examples:
  ledgerfeed budget
  ledgerfeed budget --top 50
  ledgerfeed budget --month 2026-10 --json | jq .days`
}

// budgetView is the month in JSON.
type budgetView struct {
	Month       string    `json:"month"`
	Live        int64     `json:"live"`
	Backfill    int64     `json:"backfill"`
	Total       int64     `json:"total"`
	Allowed     int64     `json:"allowed"` // 0 for no bound
	Forecast    int64     `json:"forecast,omitempty"`
	PerDay      float64   `json:"per_day,omitempty"`
	UsedUp      time.Time `json:"used_up,omitzero"` // when the bound is met at this rate, if this month
	Realms      int       `json:"realms"`           // that are live now
	PerRealmDay float64   `json:"per_realm_day,omitempty"`

	Days    []dayView   `json:"days"`
	Busiest []busyRealm `json:"busiest_today,omitempty"`
}

type dayView struct {
	Day      string `json:"day"`
	Live     int64  `json:"live"`
	Backfill int64  `json:"backfill"`
}

type busyRealm struct {
	Realm   string `json:"realm"`
	Company string `json:"company,omitempty"`
	Calls   int64  `json:"calls"`
}

// Run shows.
func (c *budgetCmd) Run(ctx context.Context, p process) error {
	month := time.Now().UTC()
	if c.Month != "" {
		var err error
		if month, err = time.Parse("2006-01", c.Month); err != nil {
			return lifecycle.Usage(fmt.Errorf("--month %q: give a year and a month, such as 2026-11", c.Month))
		}
	}
	if c.Top < 0 || c.Top > state.MaxCalled {
		return lifecycle.Usage(fmt.Errorf("--top %d: give a number up to %d", c.Top, state.MaxCalled))
	}
	s, err := openConnections(ctx, p)
	if err != nil {
		return err
	}
	defer s.close(ctx)
	v, err := c.view(ctx, s, month)
	if err != nil {
		return away(ctx, s, err)
	}
	if c.JSON {
		return json.NewEncoder(p.stdout).Encode(v)
	}
	return v.print(p.stdout)
}

func (c *budgetCmd) view(ctx context.Context, s *servers, month time.Time) (budgetView, error) {
	v := budgetView{Month: month.Format("2006-01"), Allowed: s.config.QBO.MonthlyCalls, Days: []dayView{}}
	days, err := s.store.Calls(ctx, month)
	if err != nil {
		return v, err
	}
	for _, d := range days {
		v.Live += d.Live
		v.Backfill += d.Backfill
		v.Days = append(v.Days, dayView{d.Day.Format(time.DateOnly), d.Live, d.Backfill})
	}
	v.Total = v.Live + v.Backfill
	counts, err := s.connections.Counts(ctx)
	if err != nil {
		return v, err
	}
	v.Realms = counts[connection.Live]
	now := time.Now().UTC()
	if month.Year() != now.Year() || month.Month() != now.Month() {
		return v, nil
	}
	u, err := s.budget.Usage(ctx)
	if err != nil {
		return v, err
	}
	v.Forecast, v.PerDay = u.Forecast, u.PerDay
	if v.Realms > 0 {
		v.PerRealmDay = u.PerDay / float64(v.Realms)
	}
	if v.Allowed > 0 && v.Forecast > v.Allowed && u.PerDay > 0 {
		left := max(v.Allowed-v.Total, 0)
		v.UsedUp = now.Add(time.Duration(float64(left) / u.PerDay * 24 * float64(time.Hour))).Truncate(time.Hour)
	}
	busy, err := s.store.Busiest(ctx, now, c.Top)
	if err != nil {
		return v, err
	}
	names, err := companiesOf(ctx, s.store, busy, func(b state.RealmCalls) string { return b.RealmID })
	for _, b := range busy {
		v.Busiest = append(v.Busiest, busyRealm{b.RealmID, names[b.RealmID], b.Calls})
	}
	return v, err
}

func (v budgetView) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, "month", v.Month)
	row(t, "live", v.Live)
	row(t, "backfill", v.Backfill)
	allowed := "no bound"
	if v.Allowed > 0 {
		allowed = fmt.Sprintf("of %d (%.1f %%)", v.Allowed, 100*float64(v.Total)/float64(v.Allowed))
	}
	row(t, "total", fmt.Sprintf("%d %s", v.Total, allowed))
	if v.Forecast > 0 {
		row(t, "forecast", fmt.Sprintf("%d at %.0f a day", v.Forecast, v.PerDay))
		row(t, "per company and day", fmt.Sprintf("%.2f (%d are live)", v.PerRealmDay, v.Realms))
	}
	if !v.UsedUp.IsZero() {
		row(t, "used up", stamp(v.UsedUp)+" at this rate; the last tenth is for live changes alone")
	}
	for _, d := range v.Days {
		if d.Live+d.Backfill > 0 {
			row(t, d.Day, fmt.Sprintf("%d live, %d backfill", d.Live, d.Backfill))
		}
	}
	for _, b := range v.Busiest {
		row(t, "realm "+companies{b.Realm: b.Company}.named(b.Realm)+" today", b.Calls)
	}
	return t.Flush()
}

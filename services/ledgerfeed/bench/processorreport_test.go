package bench_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// processorRow is a contender in a scenario. Figures are medians over the rounds,
// counts are of all windows.
type processorRow struct {
	Contender string  `json:"contender"`
	Scenario  string  `json:"scenario"`
	Replicas  int     `json:"replicas"`
	EventsPS  float64 `json:"events_per_s"`
	// P50 and the others are from publishing an event to writing the row of its
	// change; those of a backlog are mostly of waiting for one's turn.
	P50      float64 `json:"p50_ms"`
	P95      float64 `json:"p95_ms"`
	P99      float64 `json:"p99_ms"`
	APICalls int64   `json:"api_calls"`
	Events   int     `json:"events"`
	// Delivered are changes: events of one record may come together in one.
	Delivered int `json:"delivered"`
	Lost      int `json:"lost"`
	// CPU is the processor time of the contender's processes alone.
	CPU float64 `json:"cpu_s_per_1000"`
	// Rounds are the events a second of each round.
	Rounds []float64 `json:"rounds_events_per_s,omitempty"`
}

type processorReport struct {
	Machine string         `json:"machine"`
	Window  string         `json:"window"`
	Rounds  int            `json:"rounds"`
	Rows    []processorRow `json:"rows"`
	// OtherRealm is how late the change was that came during the flood of another
	// realm, in milliseconds.
	OtherRealm float64            `json:"flood_other_realm_ms"`
	Ratios     map[string]float64 `json:"ratios"`
}

func newProcessorReport() *processorReport {
	return &processorReport{Machine: machine(), Window: duration.String(), Rounds: *rounds}
}

func (r *processorReport) noise() bool { return tooShort(r.Window) }

func (r *processorReport) write(t *testing.T) {
	t.Helper()
	writeReport(t, "processor", r)
}

func (r *processorReport) add(all []*series) {
	for _, scenario := range []string{backlog, steady, scale} {
		for _, s := range all {
			if s.scenario == scenario {
				r.Rows = append(r.Rows, rowOf(s))
			}
		}
	}
}

func rowOf(s *series) processorRow {
	row := processorRow{Contender: s.contender, Scenario: s.scenario, Replicas: s.replicas}
	figure := func(of func(window) float64) float64 {
		var values []float64
		for _, w := range s.windows {
			values = append(values, of(w))
		}
		return median(values)
	}
	row.EventsPS = figure(window.rate)
	row.P50 = figure(func(w window) float64 { return w.latency(0.5) })
	row.P95 = figure(func(w window) float64 { return w.latency(0.95) })
	row.P99 = figure(func(w window) float64 { return w.latency(0.99) })
	row.CPU = figure(func(w window) float64 { return w.cpu.Seconds() / float64(max(1, w.rows)) * 1000 })
	for _, w := range s.windows {
		row.APICalls, row.Events, row.Delivered, row.Lost = row.APICalls+w.calls, row.Events+w.events, row.Delivered+w.rows, row.Lost+w.lost()
		row.Rounds = append(row.Rounds, w.rate())
	}
	return row
}

func (r *processorReport) row(contender, scenario string, replicas int) (processorRow, bool) {
	i := slices.IndexFunc(r.Rows, func(w processorRow) bool {
		return w.Contender == contender && w.Scenario == scenario && w.Replicas == replicas
	})
	if i < 0 {
		return processorRow{}, false
	}
	return r.Rows[i], true
}

// judge fills the ratios and returns the claims.
func (r *processorReport) judge() (bars []bar) {
	r.Ratios = map[string]float64{}
	claim := func(held bool, format string, args ...any) {
		bars = append(bars, bar{fmt.Sprintf(format, args...), held})
	}
	own, measured := r.row("ledgerfeed", backlog, 1)
	for _, other := range []string{"bare", "river"} {
		if w, ok := r.row(other, backlog, 1); ok && measured {
			r.Ratios["events_to_"+other] = ratio(own.EventsPS, w.EventsPS)
			r.Ratios["cpu_to_"+other] = ratio(own.CPU, w.CPU)
		}
	}
	if to, ok := r.Ratios["events_to_bare"]; ok {
		claim(to >= 0.75, "events/s are at least 0.75 of the bare limit: %.2f", to)
	}
	if to, ok := r.Ratios["events_to_river"]; ok {
		claim(to > 1, "ahead of river in events/s: %.2f times", to)
	}
	if w, ok := r.row("ledgerfeed", steady, 1); ok {
		claim(w.P95 < 300, "at %d changes/s, p95 from change to sink is below 300 ms: %.0f ms", changeRate, w.P95)
	}
	r.scales(claim)
	r.calls(claim)
	return bars
}

// scales are the claims about more than one replica.
func (r *processorReport) scales(claim func(bool, string, ...any)) {
	one, ok := r.row("ledgerfeed", scale, 1)
	if !ok {
		return
	}
	for _, c := range []struct {
		replicas int
		least    float64
	}{{2, 1.7}, {4, 3}} {
		w, ok := r.row("ledgerfeed", scale, c.replicas)
		if !ok {
			continue
		}
		to := ratio(w.EventsPS, one.EventsPS)
		r.Ratios[fmt.Sprintf("scale_%d", c.replicas)] = to
		claim(to >= c.least, "%d replicas do at least %.1f times as much as one where the API takes its time: %.2f", c.replicas, c.least, to)
	}
}

// calls are the claims about what the API is asked.
func (r *processorReport) calls(claim func(bool, string, ...any)) {
	if w, ok := r.row("ledgerfeed", flood, 1); ok {
		claim(w.APICalls <= 60, "%d changes of one realm take at most 60 API calls: %d", w.Events-1, w.APICalls)
		claim(r.OtherRealm < 2000, "and a change of another realm meanwhile less than 2 s: %.2f s", r.OtherRealm/1000)
	}
	if w, ok := r.row("ledgerfeed", bursty, 1); ok {
		r.Ratios["burst_calls_per_event"] = ratio(float64(w.APICalls), float64(w.Events))
		claim(r.Ratios["burst_calls_per_event"] <= 0.3, "a burst takes at most 0.3 API calls for a webhook event: %.2f", r.Ratios["burst_calls_per_event"])
	}
	if w, ok := r.row("ledgerfeed", trickle, 1); ok {
		r.Ratios["trickle_calls_per_change"] = ratio(float64(w.APICalls), float64(w.Delivered))
		claim(r.Ratios["trickle_calls_per_change"] <= 1.05, "a trickle takes at most 1.05 API calls for a delivered change: %.2f", r.Ratios["trickle_calls_per_change"])
	}
}

func (r *processorReport) markdown() string {
	var b strings.Builder
	bars := r.judge()
	fmt.Fprintf(&b, "%s; %d rounds of %s.\n", r.Machine, r.Rounds, r.Window)
	fmt.Fprintf(&b, "\n| scenario | contender | replicas | events/s | p50 ms | p95 ms | p99 ms | CPU s/1000 | API calls | events | delivered | lost |\n|%s\n", strings.Repeat("---|", 12))
	for _, w := range r.Rows {
		fmt.Fprintf(&b, "| %s | %s | %d | %.0f | %.0f | %.0f | %.0f | %.3f | %d | %d | %d | %d |\n",
			w.Scenario, w.Contender, w.Replicas, w.EventsPS, w.P50, w.P95, w.P99, w.CPU, w.APICalls, w.Events, w.Delivered, w.Lost)
	}
	writeBars(&b, bars, r.noise())
	return b.String()
}

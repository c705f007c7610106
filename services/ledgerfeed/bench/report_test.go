package bench_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/load"
)

// row is a contender in a profile; the figures are medians over the rounds.
type row struct {
	Contender string  `json:"contender"`
	Profile   string  `json:"profile"`
	RPS       float64 `json:"rps"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	P999      float64 `json:"p999_ms"`
	Answered  int64   `json:"answered"`
	Stored    int64   `json:"stored"`
	Lost      int64   `json:"lost"`
	IdleP50   float64 `json:"idle_p50_ms"`
	IdleP99   float64 `json:"idle_p99_ms"`
	CPU       float64 `json:"cpu_ms_per_1000"`
}

// memory is the resident memory of a process with so many requests in flight.
type memory struct {
	Contender string  `json:"contender"`
	InFlight  int     `json:"in_flight"`
	IdleMiB   float64 `json:"idle_mib"`
	MiB       float64 `json:"mib"`
}

type report struct {
	Machine string             `json:"machine"`
	Window  string             `json:"window"`
	Rounds  int                `json:"rounds"`
	Rows    []row              `json:"rows"`
	Memory  []memory           `json:"memory"`
	Ratios  map[string]float64 `json:"ratios"`
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (r *report) add(p *profile) {
	for _, c := range p.contenders {
		w := row{
			Contender: c.name, Profile: p.name, Stored: c.kept, Lost: c.lost, CPU: median(c.cpu),
			RPS:     medianOf(c.runs, func(r load.Report) float64 { return r.RPS }),
			P50:     medianOf(c.runs, func(r load.Report) float64 { return milliseconds(r.P50) }),
			P99:     medianOf(c.runs, func(r load.Report) float64 { return milliseconds(r.P99) }),
			P999:    medianOf(c.runs, func(r load.Report) float64 { return milliseconds(r.P999) }),
			IdleP50: milliseconds(c.idle.P50), IdleP99: milliseconds(c.idle.P99),
		}
		for _, run := range c.runs {
			w.Answered += run.Answered
		}
		r.Rows = append(r.Rows, w)
	}
}

func (r *report) row(contender, profile string) (row, bool) {
	i := slices.IndexFunc(r.Rows, func(w row) bool { return w.Contender == contender && w.Profile == profile })
	if i < 0 {
		return row{}, false
	}
	return r.Rows[i], true
}

// bar is a claim of docs/benchmarks.md and whether it held.
type bar struct {
	text string
	held bool
}

// judge fills the ratios and returns the claims.
func (r *report) judge() (bars []bar) {
	r.Ratios = map[string]float64{}
	for _, profile := range []string{relaxed, synced} {
		own, ok := r.row("ledgerfeed", profile)
		bare, okBare := r.row("bare", profile)
		if !ok {
			continue
		}
		if okBare {
			ratio := own.RPS / bare.RPS
			r.Ratios[profile+": rps to bare"] = ratio
			r.Ratios[profile+": cpu to bare"] = own.CPU / bare.CPU
			r.Ratios[profile+": idle p50 above bare, ms"] = own.IdleP50 - bare.IdleP50
			bars = append(bars, bar{fmt.Sprintf("%s: an idle request takes at most 1 ms more than bare (%.2f ms more)", profile, own.IdleP50-bare.IdleP50), own.IdleP50 <= bare.IdleP50+1})
			if profile == relaxed {
				bars = append(bars, bar{fmt.Sprintf("%s: at least 0.85 of the bare limit at p99 < 50 ms (%.2f)", profile, ratio), ratio >= 0.85})
			} else {
				bars = append(bars,
					bar{fmt.Sprintf("%s: at least 3 times the bare limit at 256 connections (%.1f)", profile, ratio), ratio >= 3},
					bar{fmt.Sprintf("%s: and with no worse p99 (%.1f ms, bare %.1f ms)", profile, own.P99, bare.P99), own.P99 <= bare.P99})
			}
		}
		for _, peer := range []string{"watermill", "river"} {
			if w, ok := r.row(peer, profile); ok {
				r.Ratios[profile+": rps to "+peer] = own.RPS / w.RPS
				ahead := own.RPS > w.RPS && own.P50 < w.P50 && own.P99 < w.P99 && own.P999 < w.P999
				bars = append(bars, bar{fmt.Sprintf("%s: ahead of %s in every column", profile, peer), ahead})
			}
		}
	}
	for _, m := range r.Memory {
		if m.Contender == "ledgerfeed" {
			bars = append(bars, bar{fmt.Sprintf("at most 64 MiB resident with %d requests in flight (%.1f MiB)", m.InFlight, m.MiB), m.MiB <= 64})
		}
	}
	return bars
}

// write prints a table for docs/benchmarks.md and writes ingress.json.
func (r *report) write(t *testing.T) {
	t.Helper()
	bars := r.judge()
	r.Machine = fmt.Sprintf("%d cores, %s/%s, %s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version())
	r.Window, r.Rounds = window.String(), *rounds
	var b strings.Builder
	fmt.Fprintf(&b, "\n| profile | contender | requests/s | p50 | p99 | p99.9 | idle p50 | idle p99 | cpu ms/1000 | answered | stored | lost |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, w := range r.Rows {
		fmt.Fprintf(&b, "| %s | %s | %.0f | %.2f | %.2f | %.2f | %.2f | %.2f | %.0f | %d | %d | %d |\n",
			w.Profile, w.Contender, w.RPS, w.P50, w.P99, w.P999, w.IdleP50, w.IdleP99, w.CPU, w.Answered, w.Stored, w.Lost)
	}
	for _, m := range r.Memory {
		fmt.Fprintf(&b, "\n%s: %.1f MiB idle, %.1f MiB with %d requests in flight", m.Contender, m.IdleMiB, m.MiB, m.InFlight)
	}
	b.WriteString("\n\n")
	for _, bar := range bars {
		fmt.Fprintf(&b, "%s %s\n", map[bool]string{true: "✓", false: "✗"}[bar.held], bar.text)
	}
	if *window < 20*time.Second {
		b.WriteString("(short windows: the figures are noise)\n")
	}
	t.Log(b.String())
	if *out == "" {
		return
	}
	text, err := json.MarshalIndent(r, "", "  ")
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(*out, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(*out, "ingress.json"), append(text, '\n'), 0o644))
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

func medianOf(runs []load.Report, figure func(load.Report) float64) float64 {
	var values []float64
	for _, r := range runs {
		values = append(values, figure(r))
	}
	return median(values)
}

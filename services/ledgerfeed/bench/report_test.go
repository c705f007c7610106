package bench_test

import (
	"bufio"
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

// row is a contender in a profile. Figures are medians over the rounds, counts
// are of all windows.
type row struct {
	Contender string `json:"contender"`
	Profile   string `json:"profile"`
	// RPS is, where the broker is relaxed, the highest rate of an open loop with
	// 99 % within 50 ms; where it syncs always, what 256 connections are answered.
	RPS float64 `json:"rps"`
	// P50 and the others are those at SameRate where the broker is relaxed, and
	// those of the 256 connections where it syncs always.
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
	P999     float64 `json:"p999_ms"`
	Answered int64   `json:"answered"`
	// Stored is in requests too: a window's messages over those of a request.
	Stored int64 `json:"stored"`
	Lost   int64 `json:"lost"`
	Failed int64 `json:"failed"`
	// Late are those that the generator sent late for its own sake: somebody else
	// had the machine.
	Late int64 `json:"late"`

	SameRate float64 `json:"same_rate,omitempty"`
	// OpenRPS is the highest rate of an open loop with 99 % within 50 ms.
	OpenRPS float64 `json:"open_rps"`
	OpenP50 float64 `json:"open_p50_ms"`
	OpenP99 float64 `json:"open_p99_ms"`
	// Confirmed is in how many rounds there was such a rate.
	Confirmed int `json:"open_rounds"`

	IdleP50 float64 `json:"idle_p50_ms"`
	IdleP99 float64 `json:"idle_p99_ms"`
	// CPU is the processor time of the contender's process alone.
	CPU float64 `json:"cpu_s_per_1000"`
	// Rounds are the RPS of each round.
	Rounds []float64 `json:"rounds_rps"`
}

type report struct {
	Machine string             `json:"machine"`
	Window  string             `json:"window"`
	Rounds  int                `json:"rounds"`
	Rows    []row              `json:"rows"`
	Memory  []memory           `json:"memory"`
	Ratios  map[string]float64 `json:"ratios"`
}

// newReport says what it is measured on, and how busy that is before it begins.
func newReport() *report {
	return &report{Machine: machine(), Window: duration.String(), Rounds: *rounds}
}

// keep takes the rows of a profile from an earlier run.
func (r *report) keep(t *testing.T, profile string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(*out, "ingress.json"))
	require.NoError(t, err, "run the other profile first")
	var before report
	require.NoError(t, json.Unmarshal(raw, &before))
	for _, w := range before.Rows {
		if w.Profile == profile {
			r.Rows = append(r.Rows, w)
		}
	}
}

// noise reports whether the windows are too short for figures that count.
func (r *report) noise() bool { return tooShort(r.Window) }

func tooShort(window string) bool {
	d, err := time.ParseDuration(window)
	return err != nil || d < fullWindow
}

// counts reports whether a rate held in most rounds: else the machine was too
// busy to tell.
func (r *report) counts(w row) bool { return 2*w.Confirmed > r.Rounds }

func rps(r load.Report) float64  { return r.RPS }
func p50(r load.Report) float64  { return milliseconds(r.P50) }
func p99(r load.Report) float64  { return milliseconds(r.P99) }
func p999(r load.Report) float64 { return milliseconds(r.P999) }

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (r *report) add(p *profile) {
	for _, c := range p.contenders {
		thrown, compared := c.open, c.same
		w := row{Contender: c.name, Profile: p.name, SameRate: p.sameRate()}
		if p.name == synced {
			thrown, compared, w.SameRate = c.closed, c.closed, 0
		}
		w.RPS = medianOf(thrown, rps)
		w.P50, w.P99, w.P999 = medianOf(compared, p50), medianOf(compared, p99), medianOf(compared, p999)
		w.Late = c.late
		w.Answered, w.Stored, w.Lost, w.Failed = c.answered, c.stored/c.each, (c.lost+c.each-1)/c.each, c.failed
		w.OpenRPS, w.OpenP50, w.OpenP99 = medianOf(c.open, rps), medianOf(c.open, p50), medianOf(c.open, p99)
		w.Confirmed = len(c.open)
		w.IdleP50, w.IdleP99 = medianOf(c.idle, p50), medianOf(c.idle, p99)
		w.CPU = c.cpu.Seconds() / float64(max(1, c.cpuFor)) * 1000
		for _, run := range thrown {
			w.Rounds = append(w.Rounds, run.RPS)
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
		if !ok {
			continue
		}
		if bare, ok := r.row("bare", profile); ok {
			bars = append(bars, r.beside(own, bare)...)
		}
		for _, peer := range []string{"watermill", "watermill-split", "river"} {
			if w, ok := r.row(peer, profile); ok {
				bars = append(bars, r.ahead(own, w))
			}
		}
	}
	for _, m := range r.Memory {
		if m.Contender == "ledgerfeed" && m.InFlight == inFlight {
			r.Ratios["rss_mib_at_5000_in_flight"] = m.MiB
			bars = append(bars, bar{fmt.Sprintf("at most 64 MiB resident with %d requests in flight: %.1f MiB", m.InFlight, m.MiB), m.MiB <= 64})
		}
	}
	return bars
}

// beside are the claims about the bare limit.
func (r *report) beside(own, bare row) (bars []bar) {
	rps, p99 := ratio(own.RPS, bare.RPS), ratio(own.P99, bare.P99)
	idle50, idle99 := own.IdleP50-bare.IdleP50, own.IdleP99-bare.IdleP99
	for name, value := range map[string]float64{
		"rps_to_bare": rps, "p99_to_bare": p99, "open_rps_to_bare": ratio(own.OpenRPS, bare.OpenRPS), "cpu_to_bare": ratio(own.CPU, bare.CPU),
		"idle_p50_ms_over_bare": idle50, "idle_p99_ms_over_bare": idle99,
	} {
		r.Ratios[own.Profile+"_"+name] = value
	}
	if own.Profile == relaxed {
		bars = append(bars, bar{fmt.Sprintf("%s: throughput at p99 < 50 ms is at least 0.85 of the bare limit: %.2f", own.Profile, rps), rps >= 0.85 && r.counts(own) && r.counts(bare)})
	} else {
		bars = append(bars,
			bar{fmt.Sprintf("%s: at least 3 times the bare limit at 256 connections: %.2f", own.Profile, rps), rps >= 3},
			bar{fmt.Sprintf("%s: and with no worse p99: %.1f ms, bare %.1f ms", own.Profile, own.P99, bare.P99), own.P99 <= bare.P99})
	}
	return append(bars, bar{fmt.Sprintf("%s: an idle request takes at most 1 ms more than bare: p50 %+.2f ms, p99 %+.2f ms", own.Profile, idle50, idle99), idle50 <= 1 && idle99 <= 1})
}

// ahead is the claim about a peer, and says where it does not hold.
func (r *report) ahead(own, peer row) bar {
	var behind []string
	for _, column := range []struct {
		name      string
		own, peer float64
	}{
		{"requests/s", -own.RPS, -peer.RPS},
		{"open loop", -own.OpenRPS, -peer.OpenRPS},
		{"p50", own.P50, peer.P50},
		{"p99", own.P99, peer.P99},
		{"p99.9", own.P999, peer.P999},
		{"idle p50", own.IdleP50, peer.IdleP50},
		{"idle p99", own.IdleP99, peer.IdleP99},
	} {
		if column.own > column.peer {
			behind = append(behind, column.name)
		}
	}
	if !r.counts(own) || !r.counts(peer) {
		behind = append(behind, "too few rounds in which a rate held")
	}
	r.Ratios[own.Profile+"_rps_to_"+peer.Contender] = ratio(own.RPS, peer.RPS)
	r.Ratios[own.Profile+"_p99_to_"+peer.Contender] = ratio(own.P99, peer.P99)
	r.Ratios[own.Profile+"_cpu_to_"+peer.Contender] = ratio(own.CPU, peer.CPU)
	text := fmt.Sprintf("%s: ahead of %s in throughput and every latency", own.Profile, peer.Contender)
	if len(behind) > 0 {
		text += ", but not in " + strings.Join(behind, ", ")
	}
	return bar{text, len(behind) == 0}
}

// ratio is 0 where there is nothing to compare with: JSON knows no infinity.
func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// write prints the tables of docs/benchmarks.md and writes them and the JSON.
func (r *report) write(t *testing.T) {
	t.Helper()
	writeReport(t, "ingress", r)
}

// tables are what a report puts into docs/benchmarks.md.
type tables interface{ markdown() string }

func writeReport(t *testing.T, name string, r tables) {
	t.Helper()
	text := r.markdown()
	if smoke() {
		t.Log("\n" + text)
		return
	}
	fmt.Println("\n" + text) // without the indentation of a test's log
	raw, err := json.MarshalIndent(r, "", "  ")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(*out, name+".json"), append(raw, '\n'), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(*out, name+".md"), []byte(text), 0o644))
}

func (r *report) markdown() string {
	var b strings.Builder
	bars := r.judge()
	fmt.Fprintf(&b, "%s; %d rounds of %s.\n", r.Machine, r.Rounds, r.Window)
	fmt.Fprintf(&b, "\n| profile | contender | requests/s | p50 ms | p99 ms | p99.9 ms | open loop/s | its p99 ms | idle p50 ms | idle p99 ms | CPU s/1000 | answered | stored | lost | late |\n|%s\n", strings.Repeat("---|", 15))
	for _, w := range r.Rows {
		fmt.Fprintf(&b, "| %s | %s | %.0f | %.2f | %.2f | %.2f | %.0f | %.2f | %.2f | %.2f | %.3f | %d | %d | %d | %d |\n",
			w.Profile, w.Contender, w.RPS, w.P50, w.P99, w.P999, w.OpenRPS, w.OpenP99, w.IdleP50, w.IdleP99, w.CPU, w.Answered, w.Stored, w.Lost, w.Late)
	}
	if w, ok := r.row("ledgerfeed", relaxed); ok {
		fmt.Fprintf(&b, "\nThe latencies of %s are at %.0f requests/s.\n", relaxed, w.SameRate)
	}
	b.WriteString("\n| contender | requests in flight | idle MiB | connected MiB | in flight MiB | peak MiB |\n|---|---|---|---|---|---|\n")
	for _, m := range r.Memory {
		fmt.Fprintf(&b, "| %s | %d | %.1f | %.1f | %.1f | %.1f |\n", m.Contender, m.InFlight, m.IdleMiB, m.ConnectedMiB, m.MiB, m.PeakMiB)
	}
	writeBars(&b, bars, r.noise())
	return b.String()
}

func writeBars(b *strings.Builder, bars []bar, noise bool) {
	b.WriteString("\n")
	for _, bar := range bars {
		fmt.Fprintf(b, "- %s %s\n", map[bool]string{true: "✓", false: "✗"}[bar.held], bar.text)
	}
	if noise {
		fmt.Fprintf(b, "\nWindows of less than %s: these figures are noise, and a bar that is missed does not fail the run.\n", fullWindow)
	}
}

func machine() string {
	model, busy := "processor unknown", "unknown"
	if f, err := os.Open("/proc/cpuinfo"); err == nil {
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			if name, value, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		busy, _, _ = strings.Cut(string(text), " ")
	}
	return fmt.Sprintf("%d cores (%s), %s/%s, %s, load average %s before", runtime.NumCPU(), model, runtime.GOOS, runtime.GOARCH, runtime.Version(), busy)
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

package bench_test

import (
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/chaos"
)

var (
	usageFile = flag.String("bench.usage", "", "usage.jsonl of a chaos run, to draw; none if empty")
	plotFile  = flag.String("bench.plot", "", "the SVG file to draw it into")
)

// panels are what is drawn of each process, one above the other.
var panels = []struct {
	label string
	of    func(chaos.Usage) float64
}{
	{"resident MiB", func(u chaos.Usage) float64 { return float64(u.ResidentKiB) / 1024 }},
	{"goroutines", func(u chaos.Usage) float64 { return float64(u.Goroutines) }},
	{"open files", func(u chaos.Usage) float64 { return float64(u.Files) }},
	{"keys in Redis", func(u chaos.Usage) float64 { return float64(u.Keys) }},
}

// TestPlot_DrawsWhatARunTook draws a few samples, or those of -bench.usage.
func TestPlot_DrawsWhatARunTook(t *testing.T) {
	var in io.Reader = strings.NewReader(
		`{"at":"2026-11-27T04:00:00Z","process":"ingress-1","resident_kib":20480,"files":12,"goroutines":30}
		 {"at":"2026-11-27T04:00:05Z","process":"ingress-1","resident_kib":30720,"files":14,"goroutines":31}
		 {"at":"2026-11-27T04:00:05Z","process":"redis","keys":140}
		 {"at":"2026-11-27T04:00:10Z","process":"redis","keys":150}`)
	if *usageFile != "" {
		f, err := os.Open(*usageFile)
		require.NoError(t, err)
		defer f.Close()
		in = f
	}
	var drawn strings.Builder
	require.NoError(t, drawUsage(&drawn, in))
	for _, p := range panels {
		require.Contains(t, drawn.String(), p.label)
	}
	if *usageFile == "" {
		require.Contains(t, drawn.String(), "ingress-1")
	}
	if *plotFile != "" {
		require.NoError(t, os.WriteFile(*plotFile, []byte(drawn.String()), 0o644))
	}
}

// drawUsage draws a line for each process in each panel, over the minutes of the run.
func drawUsage(w io.Writer, usage io.Reader) error {
	lines := make([]map[string]plotter.XYs, len(panels))
	for i := range lines {
		lines[i] = map[string]plotter.XYs{}
	}
	var order []string
	var begin time.Time
	for d := json.NewDecoder(usage); ; {
		var u chaos.Usage
		if err := d.Decode(&u); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		if begin.IsZero() {
			begin = u.At
		}
		if !slices.Contains(order, u.Process) {
			order = append(order, u.Process)
		}
		for i, p := range panels {
			if y := p.of(u); y > 0 { // 0: not asked, or no answer
				lines[i][u.Process] = append(lines[i][u.Process], plotter.XY{X: u.At.Sub(begin).Minutes(), Y: y})
			}
		}
	}
	const width, height = 18 * vg.Centimeter, 26 * vg.Centimeter
	canvas := vgsvg.New(width, height)
	rows := make([][]*plot.Plot, len(panels))
	for i, p := range panels {
		one := plot.New()
		one.Y.Label.Text, one.Y.Min = p.label, 0
		one.Legend.Top, one.Legend.Left = true, true
		one.Add(plotter.NewGrid())
		for k, process := range order {
			if len(lines[i][process]) == 0 {
				continue
			}
			line, err := plotter.NewLine(lines[i][process])
			if err != nil {
				return err
			}
			line.Color = plotutil.Color(k)
			one.Add(line)
			if i == 0 {
				one.Legend.Add(process, line)
			}
		}
		rows[i] = []*plot.Plot{one}
	}
	rows[len(rows)-1][0].X.Label.Text = "minutes"
	tiles := draw.Tiles{Rows: len(rows), Cols: 1, PadTop: vg.Millimeter, PadBottom: vg.Millimeter, PadRight: 3 * vg.Millimeter, PadLeft: vg.Millimeter, PadY: 4 * vg.Millimeter}
	for i, row := range plot.Align(rows, tiles, draw.New(canvas)) {
		rows[i][0].Draw(row[0])
	}
	_, err := canvas.WriteTo(w)
	return err
}

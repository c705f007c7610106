package console

import (
	"fmt"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// The size of a chart in its own units; pages scale it.
const chartWidth, chartHeight = 600.0, 120.0

// chart is a line drawn on the server.
type chart struct {
	Title, Unit string
	Path        string // of SVG; empty without samples
	Max, Last   float64
	From, To    time.Time
}

// newChart draws one value of samples. Where none came for longer than gap the line
// is broken.
func newChart(title, unit, name string, samples []state.Sample, from, to time.Time, gap time.Duration) chart {
	c := chart{Title: title, Unit: unit, From: from, To: to}
	for _, x := range samples {
		c.Max = max(c.Max, x.Values[name])
	}
	top := c.Max
	if top == 0 {
		top = 1
	}
	var path strings.Builder
	var last time.Time
	for _, x := range samples {
		v, ok := x.Values[name]
		if !ok {
			continue
		}
		step := "L"
		if last.IsZero() || x.At.Sub(last) > gap {
			step = "M"
		}
		last, c.Last = x.At, v
		fmt.Fprintf(&path, "%s%.1f %.1f", step, chartWidth*float64(x.At.Sub(from))/float64(to.Sub(from)), chartHeight*(1-v/top))
		if step == "M" {
			path.WriteString("h0.1") // a sample between two breaks shows as a dot
		}
	}
	c.Path = path.String()
	return c
}

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/load"
)

type loadCmd struct {
	tokenFlags  `embed:""`
	URL         string        `default:"http://127.0.0.1:8080/webhooks/dev" help:"URL to post to (${default})."`
	Rate        float64       `default:"100" placeholder:"R" help:"Requests per second (${default}; 0 = as fast as responses arrive)."`
	Poisson     bool          `help:"Space requests at random (Poisson), with --rate as the mean."`
	Connections int           `default:"64" placeholder:"N" help:"Maximum number of open connections (${default})."`
	For         time.Duration `default:"10s" placeholder:"D" help:"Duration of the measurement (${default})."`
	Warmup      time.Duration `default:"1s" placeholder:"D" help:"Duration of the warm-up (${default})."`
	Events      int           `default:"10" placeholder:"N" help:"Events per request (${default})."`
	Realms      int           `default:"2" placeholder:"N" help:"Companies per request (${default})."`
	Format      string        `default:"cloudevents" placeholder:"NAME" help:"Webhook format: cloudevents or legacy (${default})."`
	Timeout     time.Duration `default:"10s" help:"Response timeout (${default})."`
	Seed        uint64        `default:"1" placeholder:"S" help:"Random seed for companies and spacing (${default})."`
	JSON        bool          `help:"Print the result as one JSON object."`
	AllowRemote bool          `help:"Allow a remote target. Use only with your own server: the traffic may saturate it."`
	Insecure    bool          `help:"Skip TLS certificate verification."`
}

// Help is the long help of the command.
func (loadCmd) Help() string {
	return `Posts signed webhooks at a steady rate and measures the answers. The latency counts from the moment a
request was due, so that a server that stalls is charged for all that it kept waiting. Every body is
different, with events as Intuit sends them, of companies that nobody has connected: a feed behind the
endpoint makes dead letters of them. The token is that of ` + "`ledgerfeed dev`" + ` unless another is given.

With --json the result is one line: offered, sent, answered, failed, statuses, late, seconds, rps, p50_ms,
p90_ms, p99_ms, p999_ms, max_ms, and in service the same latencies from when a request was really sent.
Ctrl-C ends the run; the result is then of what was measured until then.
Exits 0 if every answer was 200, 1 if not, 2 on wrong use, 3 if nothing answers at the start.

Examples:
  ledgerfeed load
  ledgerfeed load --rate 1000 --for 30s --json
  ledgerfeed load --rate 0 --connections 256 --events 100 --realms 5
  ledgerfeed load --url https://staging.example.com/webhooks/sandbox --token-file token.txt --allow-remote`
}

// Run sends the load.
func (c *loadCmd) Run(ctx context.Context, p process) error {
	token, err := c.token()
	if err != nil {
		return err
	}
	o := load.DefaultOptions()
	if token != "" {
		o.Token = token
	}
	o.URL, o.Rate, o.Connections, o.Duration, o.Warmup = c.URL, c.Rate, c.Connections, c.For, c.Warmup
	o.Events, o.Realms, o.Format, o.Timeout, o.Seed = c.Events, c.Realms, webhook.Format(c.Format), c.Timeout, c.Seed
	o.Poisson, o.AllowRemote, o.InsecureTLS = c.Poisson, c.AllowRemote, c.Insecure
	if err := o.Validate(); err != nil {
		return lifecycle.Usage(err)
	}
	bar := newLoadBar(p.stderr, o)
	o.Progress = bar.show
	r, err := load.Run(ctx, o)
	bar.end()
	if errors.Is(err, load.ErrUnreachable) {
		return lifecycle.Unreachable("", err)
	}
	if err != nil {
		return err
	}
	if err := c.print(p.stdout, r); err != nil {
		return err
	}
	return outcome(r)
}

// outcome is an error unless every answer was 200.
func outcome(r load.Report) error {
	switch {
	case r.Offered == 0:
		return errors.New("stopped before the first request was due")
	case r.Failed > 0:
		return fmt.Errorf("%d of %d requests were not answered 200", r.Failed, r.Offered)
	}
	return nil
}

func (c *loadCmd) print(w io.Writer, r load.Report) error {
	if c.JSON {
		return json.NewEncoder(w).Encode(r)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "due\t%d requests in %.1fs\n", r.Offered, r.Seconds)
	fmt.Fprintf(t, "answered 200\t%d, %.1f a second\n", r.Answered, r.RPS)
	for _, status := range slices.Sorted(maps.Keys(r.Statuses)) {
		if status != "200" {
			fmt.Fprintf(t, "%s\t%d\n", status, r.Statuses[status])
		}
	}
	if r.LastError != "" {
		fmt.Fprintf(t, "last error\t%s\n", r.LastError)
	}
	fmt.Fprintf(t, "latency\t%s\n", latencies(r.Latency))
	fmt.Fprintf(t, "once sent\t%s\n", latencies(r.Service))
	if r.Late > 0 {
		fmt.Fprintf(t, "late\t%d were sent more than 10ms late because this machine was busy: with many of them the figures are not valid\n", r.Late)
	}
	return t.Flush()
}

func latencies(l load.Latency) string {
	return fmt.Sprintf("p50 %s · p90 %s · p99 %s · p99.9 %s · most %s", l.P50, l.P90, l.P99, l.P999, l.Max)
}

// loadBar shows how far the run is: a bar on a terminal, else a line a second.
type loadBar struct {
	out     io.Writer
	bar     *progressbar.ProgressBar // nil: not a terminal
	started time.Time
}

func newLoadBar(out io.Writer, o load.Options) *loadBar {
	b := &loadBar{out: out, started: time.Now()}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		b.bar = progressbar.NewOptions64((o.Warmup + o.Duration).Milliseconds(), progressbar.OptionSetWriter(out),
			progressbar.OptionSetWidth(20), progressbar.OptionSetPredictTime(true), progressbar.OptionClearOnFinish())
	}
	return b
}

func (b *loadBar) show(r load.Report) {
	line := fmt.Sprintf("%.0f a second · %d failed · p99 %s", r.RPS, r.Failed, r.P99.Round(100*time.Microsecond))
	took := time.Since(b.started)
	if r.Seconds < 0.1 { // too short for figures
		line = "warming up"
	}
	if b.bar == nil {
		fmt.Fprintf(b.out, "%4s  %s\n", took.Round(time.Second), line)
		return
	}
	b.bar.Describe(line)
	_ = b.bar.Set64(min(took.Milliseconds(), b.bar.GetMax64()))
}

func (b *loadBar) end() {
	if b.bar != nil {
		_ = b.bar.Finish()
	}
}

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
	"strings"
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
	URL         string        `default:"http://127.0.0.1:8080/webhooks/dev" help:"Where to post (${default})."`
	Rate        float64       `default:"100" placeholder:"R" help:"Requests a second that are due; 0 sends the next as soon as one is answered (${default})."`
	Connections int           `default:"64" placeholder:"N" help:"Connections open at the same time, at most (${default})."`
	For         time.Duration `default:"10s" placeholder:"D" help:"How long to measure (${default})."`
	Warmup      time.Duration `default:"1s" placeholder:"D" help:"How long to send before that (${default})."`
	Events      int           `default:"10" placeholder:"N" help:"Events in a request (${default})."`
	Realms      int           `default:"2" placeholder:"N" help:"Companies that the events of a request belong to (${default})."`
	Format      string        `default:"cloudevents" placeholder:"NAME" help:"Webhook format: cloudevents or legacy (${default})."`
	Timeout     time.Duration `default:"10s" help:"How long to wait for an answer (${default})."`
	Seed        uint64        `default:"1" placeholder:"S" help:"Another seed, other companies (${default})."`
	JSON        bool          `help:"Print the result as one line of JSON."`
	AllowRemote bool          `help:"Send to an address that is not on this machine. Only to a server of your own."`
	Insecure    bool          `help:"Take any TLS certificate."`
}

// Help is the long help of the command.
func (loadCmd) Help() string {
	return `Posts signed webhooks at a steady rate and measures the answers. The latency counts from the moment a
request was due, so that a server that stalls is charged for all it kept waiting. Every body is different.
The token is that of ` + "`ledgerfeed dev`" + ` unless another is given.
Exits 0 if every answer was 200, 1 if not, 3 if nothing answers.

Examples:
  ledgerfeed load
  ledgerfeed load --rate 1000 --for 30s --json
  ledgerfeed load --rate 0 --connections 256 --events 10 --realms 2
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
	o.AllowRemote, o.InsecureTLS = c.AllowRemote, c.Insecure
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
	if r.Failed > 0 || r.Offered == 0 {
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
	fmt.Fprintf(t, "latency\tp50 %s · p90 %s · p99 %s · p99.9 %s · most %s\n", r.P50, r.P90, r.P99, r.P999, r.Max)
	if r.Late > 0 {
		fmt.Fprintf(t, "late\t%d were sent more than 10ms late because this machine was busy\n", r.Late)
	}
	return t.Flush()
}

// loadBar shows how far the run is: a bar on a terminal, else a line a second.
type loadBar struct {
	out     io.Writer
	bar     *progressbar.ProgressBar // nil: not a terminal
	started time.Time
	total   time.Duration
}

func newLoadBar(out io.Writer, o load.Options) *loadBar {
	b := &loadBar{out: out, started: time.Now(), total: o.Warmup + o.Duration}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		b.bar = progressbar.NewOptions(int(b.total.Seconds()), progressbar.OptionSetWriter(out), progressbar.OptionClearOnFinish(), progressbar.OptionSetPredictTime(true))
	}
	return b
}

func (b *loadBar) show(r load.Report) {
	line := fmt.Sprintf("%d answered · %.0f a second · %d failed · p99 %s", r.Answered, r.RPS, r.Failed, r.P99)
	if b.bar == nil {
		fmt.Fprintf(b.out, "%4s  %s\n", time.Since(b.started).Round(time.Second), line)
		return
	}
	b.bar.Describe(strings.TrimSpace(line))
	_ = b.bar.Set(min(int(time.Since(b.started).Seconds()), int(b.total.Seconds())))
}

func (b *loadBar) end() {
	if b.bar != nil {
		_ = b.bar.Finish()
	}
}

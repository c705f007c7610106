package cli

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

type gapCoverageCmd struct {
	redisFlags `embed:""`
	Realm      string `placeholder:"ID" help:"Filter by company id (default: all companies)."`
	Entity     string `placeholder:"NAME" help:"Filter by entity type, such as Invoice."`
	Days       int    `default:"7" placeholder:"N" help:"Cover the last N days including today (${default}, at most 31); for one company whole weeks, at most five."`
	JSON       bool   `help:"Print one JSON object per line."`
}

// Help is the long help of the command.
func (gapCoverageCmd) Help() string {
	return `Shows by entity and operation how many changes a webhook told of first and how many a scan had to find, and how
late the webhooks were: from Intuit's event to the ingress, and on to the sink.

A scan cannot tell a void or an e-mailing from an update: those it finds count as updates. Changes that Intuit
sends no webhook for, from before the connection, and from while the authorisation had lapsed do not count.

Examples:
  ledgerfeed gap coverage
  ledgerfeed gap coverage --realm 9341453000000001 --days 28
  ledgerfeed gap coverage --json | jq -r 'select(.coverage < 0.95) | [.entity, .operation, .coverage] | @tsv'`
}

// covered is one line of it, and what --json prints.
type covered struct {
	Entity    string  `json:"entity"`
	Operation string  `json:"operation"`
	Told      int64   `json:"told"`
	Gaps      int64   `json:"gaps"`
	Late      int64   `json:"late"`
	Coverage  float64 `json:"coverage"`
	// The lags are in seconds; those of a share are upper bounds.
	LagMean  float64 `json:"lag_mean_seconds"`
	LagP50   float64 `json:"lag_p50_seconds"`
	LagP95   float64 `json:"lag_p95_seconds"`
	ToSink   float64 `json:"to_sink_mean_seconds"`
	LagCount int64   `json:"lag_count"`

	tally state.Tally
}

func coveredOf(k state.Kind, t state.Tally) covered {
	return covered{
		Entity: k.Entity, Operation: k.Operation, Told: t.Told, Gaps: t.Gaps, Late: t.Late, Coverage: t.Coverage(),
		LagMean: t.MeanLag().Seconds(), LagP50: t.Lags.Quantile(0.5).Seconds(), LagP95: t.Lags.Quantile(0.95).Seconds(),
		ToSink: t.MeanDelivery().Seconds(), LagCount: t.Lags.Count(), tally: t,
	}
}

func (c *gapCoverageCmd) validate() (err error) {
	if err := checkRealm(c.Realm); err != nil {
		return err
	}
	if c.Days < 1 || c.Days > state.Days {
		return lifecycle.Usage(fmt.Errorf("--days %d: give 1 to %d", c.Days, state.Days))
	}
	c.Entity, err = knownEntity(c.Entity)
	return err
}

// Run shows the coverage.
func (c *gapCoverageCmd) Run(ctx context.Context, p process) error {
	if err := c.validate(); err != nil {
		return err
	}
	store, err := c.open(ctx, p)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	all, err := c.read(ctx, store)
	if err != nil {
		return err
	}
	var lines []covered
	for _, k := range all.Kinds() {
		if c.Entity == "" || c.Entity == k.Entity {
			lines = append(lines, coveredOf(k, all[k]))
		}
	}
	if c.JSON {
		return printJSON(p.stdout, lines)
	}
	if len(lines) == 0 {
		fmt.Fprintln(p.stderr, "nothing was counted in that time")
		return nil
	}
	return writeCoverage(p.stdout, lines)
}

func (c *gapCoverageCmd) read(ctx context.Context, store *state.Store) (state.Coverage, error) {
	var parts []state.Coverage
	var err error
	if c.Realm == "" {
		parts, err = store.DailyCoverage(ctx, c.Days)
	} else {
		parts, err = store.WeeklyCoverage(ctx, c.Realm, (c.Days+6)/7)
	}
	all := state.Coverage{}
	for _, part := range parts {
		all.Merge(part)
	}
	return all, err
}

func writeCoverage(w io.Writer, lines []covered) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ENTITY\tOPERATION\tTOLD\tGAPS\tLATE\tCOVERAGE\tHALF WITHIN\t95 % WITHIN\tMEAN\tTO SINK")
	var total state.Tally
	for _, l := range lines {
		total.Add(l.tally)
		writeCovered(t, plain(l.Entity), plain(l.Operation), l.tally)
	}
	if len(lines) > 1 {
		writeCovered(t, "total", "", total)
	}
	return t.Flush()
}

func writeCovered(w io.Writer, entity, operation string, t state.Tally) {
	half, most, mean, sink := "-", "-", "-", "-"
	if t.Lags.Count() > 0 {
		half, most, mean = rough(t.Lags.Quantile(0.5)), rough(t.Lags.Quantile(0.95)), rough(t.MeanLag())
	}
	if t.Delivered > 0 {
		sink = rough(max(t.MeanDelivery(), 10*time.Millisecond))
	}
	fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%.1f %%\t%s\t%s\t%s\t%s\n", entity, operation, t.Told, t.Gaps, t.Late, 100*t.Coverage(), half, most, mean, sink)
}

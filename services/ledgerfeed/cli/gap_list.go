package cli

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

type gapLsCmd struct {
	redisFlags `embed:""`
	gapFilter  `embed:""`
	Limit      int  `default:"50" placeholder:"N" help:"List the newest N (${default}; 0 = all)."`
	JSON       bool `help:"Print one JSON object per line."`
}

// Help is the long help of the command.
func (gapLsCmd) Help() string {
	return `Lists changes that a scan found before any webhook told of them, those found last first: when, in which company,
which record, what was done to it and when by Intuit's clock, how the scan found it, and why no webhook came, as
far as can be known. All of them are delivered: the scan saw to it.

Verdicts: lost, late (the webhook came after all), ingress-outage, not-selected (in Intuit's portal), deselected
(since a time that gap findings says), no-webhooks (Intuit offers none), before-connection, authorisation-lapsed, restored (it was deleted by mistake). What they
mean: docs/gaps.md.

Redis keeps the latest of each company, at most 300 records; a Postgres sink has them all, in ledgerfeed.gap.

Examples:
  ledgerfeed gap ls --since 24h
  ledgerfeed gap ls --realm 9341453000000001 --entity Invoice
  ledgerfeed gap ls --verdict lost,late --limit 0 --json | jq -r .realm | sort | uniq -c`
}

// Run lists.
func (c *gapLsCmd) Run(ctx context.Context, p process) error {
	if err := c.validate(); err != nil {
		return err
	}
	if c.Limit < 0 {
		return lifecycle.Usage(fmt.Errorf("--limit %d: give a number of gaps, or 0 for all", c.Limit))
	}
	store, err := c.open(ctx, p)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	gaps, err := c.newest(ctx, store, c.Limit)
	if err != nil {
		return err
	}
	realmOf := func(g state.Gap) string { return g.Realm }
	names, err := companiesOf(ctx, store, gaps, realmOf)
	if err != nil {
		return err
	}
	if c.JSON {
		return printNamed(p.stdout, gaps, names, realmOf)
	}
	if len(gaps) == 0 {
		fmt.Fprintln(p.stderr, "no gaps")
		return nil
	}
	if c.Limit > 0 && len(gaps) == c.Limit {
		fmt.Fprintf(p.stderr, "the newest %d; --limit 0 lists all\n", c.Limit)
	}
	return writeGaps(p.stdout, gaps, names)
}

func writeGaps(w io.Writer, gaps []state.Gap, names companies) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "FOUND\tREALM\tRECORD\tOPERATION\tHAPPENED\tBY\tVERDICT\tWEBHOOK\tCOMPANY")
	for _, g := range gaps {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", clock(g.Found), plain(g.Realm), plain(g.Entity+"/"+g.ID),
			orDash(g.Operation), clock(g.Event), orDash(g.Source), orDash(g.Verdict), clock(g.Late), names.of(g.Realm))
	}
	return t.Flush()
}

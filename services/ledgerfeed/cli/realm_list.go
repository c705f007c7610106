package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/realmstatus"
)

type realmLsCmd struct {
	State  []string `placeholder:"STATE" help:"Filter by state: live, catching_up, gap_suspected, no_access, subscription_ended, wrong_environment, parked, pending_approval, disconnected (comma-separated)."`
	App    string   `placeholder:"NAME" help:"Filter by app."`
	Prefix string   `placeholder:"DIGITS" help:"Filter by prefix of the company id."`
	After  string   `placeholder:"ID" help:"List companies after this id."`
	Limit  int      `default:"50" placeholder:"N" help:"List at most N companies (${default}; 0 = all)."`
	Count  bool     `help:"Print only the number of companies per state."`
	JSON   bool     `help:"Print one JSON object per line."`
}

// Help is the long help of the command.
func (realmLsCmd) Help() string {
	return `Lists the companies that ever were connected, in the order of their ids as text, and how each is doing:

  live                changes are delivered as they come
  catching_up         something is known to be missing and is on its way
  gap_suspected       changes may have been missed, and no scan has looked since
  no_access           the person who connected it has lost the right to it
  subscription_ended  its QuickBooks subscription has ended
  wrong_environment   it is of another environment than qbo.base_url, or its subscription has ended
  parked              it must be connected again, or a person has put it aside; its cursors wait
  pending_approval    its consent waits for a person (ledgerfeed realm approve)
  disconnected        its tokens were forgotten because a person asked

Intuit refuses no_access, subscription_ended and wrong_environment. It is asked once an hour; a company that it
answers is live again by itself, and what waits for it is delivered.

COVERED UP TO is the time, by Intuit's clock, up to which everything is proved to be delivered.

Examples:
  ledgerfeed realm ls
  ledgerfeed realm ls --count
  ledgerfeed realm ls --state parked,no_access,subscription_ended,wrong_environment --limit 0
  ledgerfeed realm ls --app production --after 9341453000000001 --json | jq .why`
}

func (c *realmLsCmd) query() (realmstatus.Query, error) {
	q := realmstatus.Query{After: c.After, Limit: 1000, Prefix: c.Prefix, App: c.App}
	if c.Limit < 0 {
		return q, lifecycle.Usage(fmt.Errorf("--limit %d: give a number of companies, or 0 for all", c.Limit))
	}
	if c.Limit > 0 {
		q.Limit = min(c.Limit, q.Limit)
	}
	known := map[realmstatus.State]bool{}
	var names []string
	for _, s := range realmstatus.States() {
		known[s] = true
		names = append(names, string(s))
	}
	for _, text := range c.State {
		s := realmstatus.State(strings.NewReplacer(" ", "_", "-", "_").Replace(text))
		if !known[s] {
			return q, lifecycle.Usage(fmt.Errorf("--state %s: give some of %s", text, strings.Join(names, ", ")))
		}
		q.States = append(q.States, s)
	}
	for flag, id := range map[string]string{"--after": c.After, "--prefix": c.Prefix} {
		if id != "" && !realmID.MatchString(id) {
			return q, lifecycle.Usage(fmt.Errorf("%s %q: give digits", flag, id))
		}
	}
	return q, nil
}

// Run lists.
func (c *realmLsCmd) Run(ctx context.Context, p process) error {
	q, err := c.query()
	if err != nil {
		return err
	}
	s, directory, err := openDirectory(ctx, p)
	if err != nil {
		return err
	}
	defer s.close(ctx)
	if c.Count {
		return away(ctx, s, c.count(ctx, p, directory))
	}
	return away(ctx, s, c.list(ctx, p, directory, q))
}

func (c *realmLsCmd) count(ctx context.Context, p process, d *realmstatus.Directory) error {
	sum, err := d.Summary(ctx, 0)
	if err != nil {
		return err
	}
	if c.JSON {
		out := map[string]int{"total": sum.Total}
		for _, s := range realmstatus.States() {
			out[string(s)] = sum.Counts[s]
		}
		return json.NewEncoder(p.stdout).Encode(out)
	}
	t := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, s := range realmstatus.States() {
		fmt.Fprintf(t, "%d\t %s\n", sum.Counts[s], s)
	}
	fmt.Fprintf(t, "%d\t total\n", sum.Total)
	return t.Flush()
}

// list prints page by page, so that a long list begins at once.
func (c *realmLsCmd) list(ctx context.Context, p process, d *realmstatus.Directory, q realmstatus.Query) error {
	table := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	listed := 0
	for {
		page, err := d.List(ctx, q)
		if err != nil {
			return err
		}
		for _, r := range page.Realms {
			if listed == 0 && !c.JSON {
				fmt.Fprintln(table, "REALM\tAPP\tSTATE\tCOVERED UP TO\tNEXT SCAN\tTOKEN\tWHY\tCOMPANY")
			}
			listed++
			if err := c.print(p, table, r); err != nil {
				return err
			}
		}
		if err := table.Flush(); err != nil {
			return err
		}
		if page.Next == "" || c.Limit > 0 && listed >= c.Limit {
			return c.end(p, listed, page.Next)
		}
		q.After = page.Next
		if c.Limit > 0 {
			q.Limit = min(q.Limit, c.Limit-listed)
		}
	}
}

func (c *realmLsCmd) print(p process, table *tabwriter.Writer, r realmstatus.Realm) error {
	v := viewOf(r)
	if c.JSON {
		enc := json.NewEncoder(p.stdout)
		enc.SetEscapeHTML(false)
		return enc.Encode(v)
	}
	next := until(v.Due)
	switch {
	case v.BeingScanned:
		next = "now"
	case !v.Due.IsZero() && v.Due.Before(time.Now()):
		next = "due"
	}
	_, err := fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", v.Realm, orDash(v.App), v.State, stamp(v.CoveredUpTo), next, v.Token.left(), short(v.Why), short(v.Company))
	return err
}

func (c *realmLsCmd) end(p process, listed int, next string) error {
	switch {
	case c.JSON:
	case listed == 0:
		fmt.Fprintln(p.stderr, "no such companies")
	case next != "":
		fmt.Fprintf(p.stderr, "there are more: --after %s lists on, --limit 0 lists all\n", next)
	}
	return nil
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

type scanCmd struct {
	Start  scanStartCmd  `cmd:"" help:"Scan companies now."`
	Status scanStatusCmd `cmd:"" help:"Show requested scans and first loads."`
	Cancel scanCancelCmd `cmd:"" help:"Cancel requested scans."`
}

// askFlags are the flags of what asks for scans.
type askFlags struct {
	redisFlags     `embed:""`
	realmSelection `embed:""`
	Entity         []string `placeholder:"NAME" help:"Entity types, such as Invoice (comma-separated; default: all)."`
	Detach         bool     `help:"Return at once; follow with ledgerfeed scan status."`
	consent        `embed:""`
	JSON           bool `help:"Print the results, one JSON object per line."`
}

type scanStartCmd struct {
	askFlags `embed:""`
}

// Help is the long help of the command.
func (scanStartCmd) Help() string {
	return `Asks the running reconcilers to scan companies before what is due, and shows how far they are until everything
that was missing is delivered. Ctrl-C ends the watching, not the scan. A company that is scanned already is not
scanned twice: the scan under way is shown. A quiet company costs one metered call, and some two for each kind of
record that only Query can find.

Exits 0 if every scan was completed, 1 if one failed or was cancelled, 3 if no reconciler is running.

Examples:
  ledgerfeed scan start --realm 9341453000000001
  ledgerfeed scan start --realm 9341453000000001 --entity Invoice,TimeActivity --json
  ledgerfeed scan start --all --detach --yes`
}

// Run asks for scans.
func (c *scanStartCmd) Run(ctx context.Context, p process) error {
	return c.run(ctx, p, "scan", false)
}

type backfillCmd struct {
	askFlags `embed:""`
}

// Help is the long help of the command.
func (backfillCmd) Help() string {
	return `Has everything of a company read again, from its first record on, and compared with what the sinks have: what some
sink lacks is delivered, deletions included, and nothing that it has already (ledgerfeed replay does that). What
changes meanwhile is not overwritten: a sink never goes back to an older version. The cursors stay where they are
until it is done, so that it can be cancelled at any time. Interrupted, it goes on where it was.

It costs a metered call for 1,000 records and leaves the turns, and the last tenth of the month's calls, to live
work. Live progress, rate and time left are shown.

Examples:
  ledgerfeed backfill --realm 9341453000000001 --dry-run
  ledgerfeed backfill --realm 9341453000000001 --entity Invoice
  ledgerfeed backfill --all --detach --yes`
}

// Run asks for loads.
func (c *backfillCmd) Run(ctx context.Context, p process) error {
	return c.run(ctx, p, "backfill", true)
}

func (c *askFlags) run(ctx context.Context, p process, verb string, load bool) error {
	if err := c.validate(); err != nil {
		return err
	}
	names, err := entities(c.Entity)
	if err != nil {
		return err
	}
	if err := c.possible(p); err != nil {
		return err
	}
	store, err := c.open(ctx, p)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	realms, err := c.realms(ctx, store)
	if err != nil {
		return err
	}
	if len(realms) == 0 {
		fmt.Fprintln(p.stderr, "no company was ever connected")
		return nil
	}
	if c.DryRun {
		return c.dryRun(ctx, p, store, realms, names, verb)
	}
	if err := c.somebody(ctx, store); err != nil {
		return err
	}
	if err := c.ask(ctx, p, fmt.Sprintf("%s %s?", verb, several(len(realms), "company", "companies"))); err != nil {
		return err
	}
	for _, realm := range realms {
		job, fresh, err := store.Ask(ctx, state.Job{Realm: realm, Entities: names, Load: load, By: asker(verb)})
		if err != nil {
			return err
		}
		if !fresh {
			fmt.Fprintf(p.stderr, "realm %s is %s already, asked for by %s at %s\n", realm, job.State, plain(job.By), clock(job.Requested))
		}
	}
	if c.Detach {
		_, err := fmt.Fprintf(p.stdout, "%s: asked for; ledgerfeed scan status shows it\n", several(len(realms), "company", "companies"))
		return err
	}
	return watchJobs(ctx, p, store, realms, c.JSON)
}

// asker says who asks, for whoever looks at the scan.
func asker(verb string) string {
	name := "somebody"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	return name + ": ledgerfeed " + verb
}

// somebody refuses to wait for nobody.
func (c *askFlags) somebody(ctx context.Context, store *state.Store) error {
	replicas, err := store.Replicas(ctx, "reconciler")
	if err != nil || c.Detach || len(replicas) > 0 {
		return err
	}
	return lifecycle.Unreachable("", errors.New("no reconciler is running on this Redis: start one, or give --detach to leave the request for it"))
}

// dryRun says what would be asked for, and what it would cost at least.
func (c *askFlags) dryRun(ctx context.Context, p process, store *state.Store, realms, kinds []string, verb string) error {
	type plan struct {
		Realm    string    `json:"realm"`
		Entities []string  `json:"entities,omitempty"`
		Cursors  int       `json:"cursors"`
		Oldest   time.Time `json:"oldest,omitzero"`
		Underway bool      `json:"underway"`
	}
	var plans []plan
	for _, realm := range realms {
		row, err := rowOf(ctx, store, realm)
		if err != nil {
			return err
		}
		job, err := store.Job(ctx, realm)
		if err != nil && !errors.Is(err, state.ErrNoJob) {
			return err
		}
		plans = append(plans, plan{
			Realm: realm, Entities: kinds, Cursors: row.Entities, Oldest: row.Oldest, Underway: err == nil && !job.State.Over(),
		})
	}
	names, err := store.CompanyNames(ctx, realms)
	if err != nil {
		return err
	}
	if c.JSON {
		return printNamed(p.stdout, plans, names, func(one plan) string { return one.Realm })
	}
	for _, one := range plans {
		what := "all its records"
		if len(kinds) > 0 {
			what = fmt.Sprint(kinds)
		}
		text := fmt.Sprintf("would %s realm %s: %s, %d cursors, the oldest %s", verb, companies(names).named(one.Realm), what, one.Cursors, clock(one.Oldest))
		if one.Underway {
			text += "; it is being scanned already"
		}
		if _, err := fmt.Fprintln(p.stdout, text); err != nil {
			return err
		}
	}
	return nil
}

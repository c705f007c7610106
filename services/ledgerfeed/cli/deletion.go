package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

type deletionsCmd struct {
	Ls      deletionsLsCmd      `cmd:"" help:"List deletions on hold."`
	Approve deletionsApproveCmd `cmd:"" help:"Approve held deletions of records that QuickBooks still does not return."`
	Reject  deletionsRejectCmd  `cmd:"" help:"Reject held deletions and keep the records."`
}

type deletionsLsCmd struct {
	redisFlags `embed:""`
	JSON       bool `help:"Print one JSON object per line, including decided holds."`
}

// Help is the long help of the command.
func (deletionsLsCmd) Help() string {
	return `Lists deletions that a scan holds: QuickBooks did not return more than 20 and more than a tenth of a company's
records of one kind, and ChangeDataCapture said nothing of them. They are published after an approval, or after a
second scan six hours later that finds the same.

Examples:
  ledgerfeed deletions ls
  ledgerfeed deletions ls --json | jq -r 'select(.state == "held") | .realm'`
}

// Run lists.
func (c *deletionsLsCmd) Run(ctx context.Context, p process) error {
	store, err := c.open(ctx, p)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	all, err := store.HeldDeletions(ctx)
	if err != nil {
		return err
	}
	realmOf := func(h state.HeldDeletion) string { return h.Realm }
	names, err := companiesOf(ctx, store, all, realmOf)
	if err != nil {
		return err
	}
	if c.JSON {
		return printNamed(p.stdout, all, names, realmOf)
	}
	t := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	n := 0
	fmt.Fprintln(t, "REALM\tENTITY\tSTATE\tRECORDS\tOF\tHELD SINCE\tSOME IDS\tCOMPANY")
	for _, h := range all {
		if h.State == state.DeletionRejected {
			continue
		}
		n++
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\n", plain(h.Realm), plain(h.Entity), h.State, h.Count, h.Of, clock(h.Since), orDash(strings.Join(h.Sample, " ")), names.of(h.Realm))
	}
	if n == 0 {
		fmt.Fprintln(p.stderr, "no deletions are held")
		return nil
	}
	return t.Flush()
}

// deletionsChoice is one held deletion to decide on.
type deletionsChoice struct {
	redisFlags `embed:""`
	Realm      string `arg:"" help:"Company id (realmId)."`
	Entity     string `arg:"" help:"Entity type, such as Invoice."`
	consent    `embed:""`
}

func (c *deletionsChoice) run(ctx context.Context, p process, verb string, do func(context.Context, *state.Store, state.HeldDeletion) error) error {
	if err := validRealms("realm", c.Realm); err != nil {
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
	h, err := store.HeldDeletion(ctx, c.Realm, entity.Canonical(c.Entity))
	if err != nil {
		return err
	}
	if h.State != state.DeletionHeld {
		return lifecycle.Usage(fmt.Errorf("%s of realm %s: no deletions are held; see ledgerfeed deletions ls", h.Entity, h.Realm))
	}
	names, err := store.CompanyNames(ctx, []string{h.Realm})
	if err != nil {
		return err
	}
	what := fmt.Sprintf("%s %d deletions of %d records of %s of realm %s", verb, h.Count, h.Of, h.Entity, companies(names).named(h.Realm))
	if c.DryRun {
		_, err := fmt.Fprintf(p.stdout, "would %s\n", what)
		return err
	}
	if err := c.ask(ctx, p, what+"?"); err != nil {
		return err
	}
	if err := do(ctx, store, h); err != nil {
		if errors.Is(err, state.ErrNotHeld) {
			return fmt.Errorf("%w: look at ledgerfeed deletions ls again", err)
		}
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "%s: done\n", what)
	return err
}

type deletionsApproveCmd struct {
	deletionsChoice `embed:""`
}

// Help is the long help of the command.
func (deletionsApproveCmd) Help() string {
	return `The company is scanned at once. Each held record is read by its id: those that QuickBooks still does not return
are deleted in every sink, the others stay. Records missed after the hold are not part of it.

Examples:
  ledgerfeed deletions approve 9341453000000001 TimeActivity
  ledgerfeed deletions approve 9341453000000001 TimeActivity --dry-run`
}

// Run approves.
func (c *deletionsApproveCmd) Run(ctx context.Context, p process) error {
	return c.run(ctx, p, "approve", func(ctx context.Context, store *state.Store, h state.HeldDeletion) error {
		if _, err := store.ApproveDeletion(ctx, h.Realm, h.Entity, asker("deletions approve")); err != nil {
			return err
		}
		return store.Schedule(ctx, h.Realm, time.Now())
	})
}

type deletionsRejectCmd struct {
	deletionsChoice `embed:""`
}

// Help is the long help of the command.
func (deletionsRejectCmd) Help() string {
	return `The records stay in every sink, and what was observed is forgotten. Should they be absent again, everything starts
from the beginning, and for 30 days takes four times as long to count as before.

Examples:
  ledgerfeed deletions reject 9341453000000001 TimeActivity --yes`
}

// Run rejects.
func (c *deletionsRejectCmd) Run(ctx context.Context, p process) error {
	return c.run(ctx, p, "reject", func(ctx context.Context, store *state.Store, h state.HeldDeletion) error {
		_, err := store.RejectDeletion(ctx, h.Realm, h.Entity, asker("deletions reject"))
		return err
	})
}

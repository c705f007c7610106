package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/reconciler"
)

// rewindTime is a time, or the beginning.
type rewindTime struct {
	at  moment
	set bool
}

// UnmarshalText reads zero, or a moment.
func (r *rewindTime) UnmarshalText(text []byte) error {
	r.set = true
	if string(text) == "zero" {
		return nil
	}
	return r.at.UnmarshalText(text)
}

type cursorRewindCmd struct {
	redisFlags     `embed:""`
	realmSelection `embed:""`
	Entity         []string      `placeholder:"NAME" help:"Entity types, such as Invoice (comma-separated; default: all)."`
	To             rewindTime    `required:"" placeholder:"TIME" help:"2026-11-20, 2026-11-20T15:04:05Z, 36h or 7d ago; zero deletes the cursors, so that everything is loaded again."`
	Wait           time.Duration `default:"1m" placeholder:"D" help:"Time to wait for a running scan of the company (${default})."`
	consent        `embed:""`
	JSON           bool `help:"Print the rewound cursors, one JSON object per line."`
}

// Help is the long help of the command.
func (cursorRewindCmd) Help() string {
	return `Moves cursors back and makes the company due at once: the next scan compares everything from then on with what
the sinks have, and delivers what they lack. No cursor is moved forward, and nothing is delivered twice that a
sink has already; for that see ledgerfeed replay. Beyond 29 days a scan reads all records and all ids, which
costs a call for 1,000 of them. To only read everything once more, ledgerfeed backfill leaves the cursors alone.

Examples:
  ledgerfeed cursor rewind --realm 9341453000000001 --to 7d --dry-run
  ledgerfeed cursor rewind --realm 9341453000000001 --entity Invoice,Bill --to 2026-11-20
  ledgerfeed cursor rewind --all --to zero --yes`
}

// Run rewinds.
func (c *cursorRewindCmd) Run(ctx context.Context, p process) error {
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
	moves, err := c.moves(ctx, store, realms, names)
	if err != nil {
		return err
	}
	known, err := store.CompanyNames(ctx, realms)
	if err != nil {
		return err
	}
	question := fmt.Sprintf("rewind %s of %s to %s?", several(len(moves), "cursor", "cursors"), several(len(realms), "company", "companies"), c.target())
	switch {
	case len(moves) == 0:
		fmt.Fprintln(p.stderr, "no cursor is later than that")
		return nil
	case c.DryRun:
		return c.print(p, moves, known, "would be")
	}
	if err := c.ask(ctx, p, question); err != nil {
		return err
	}
	for _, realm := range realms {
		if err := c.rewind(ctx, store, realm, names); err != nil {
			return fmt.Errorf("realm %s: %w", realm, err)
		}
	}
	return c.print(p, moves, known, "is")
}

func (c *cursorRewindCmd) target() string {
	if at := c.To.at.time(); !at.IsZero() {
		return at.Format(time.RFC3339)
	}
	return "the beginning"
}

// cursorMove is a cursor that moves back.
type cursorMove struct {
	Realm  string    `json:"realm"`
	Entity string    `json:"entity"`
	From   time.Time `json:"from"`
	To     time.Time `json:"to,omitzero"`
}

func (c *cursorRewindCmd) moves(ctx context.Context, store *state.Store, realms, names []string) ([]cursorMove, error) {
	var moves []cursorMove
	for _, realm := range realms {
		cursors, err := store.Cursors(ctx, realm)
		if err != nil {
			return nil, err
		}
		for entity, at := range cursors {
			if at.After(c.To.at.time()) && (len(names) == 0 || slices.Contains(names, entity)) {
				moves = append(moves, cursorMove{Realm: realm, Entity: entity, From: at, To: c.To.at.time()})
			}
		}
	}
	slices.SortFunc(moves, func(a, b cursorMove) int {
		return cmp.Or(cmp.Compare(a.Realm, b.Realm), cmp.Compare(a.Entity, b.Entity))
	})
	return moves, nil
}

func (c *cursorRewindCmd) print(p process, moves []cursorMove, names companies, verb string) error {
	if c.JSON {
		return printNamed(p.stdout, moves, names, func(m cursorMove) string { return m.Realm })
	}
	for _, m := range moves {
		if _, err := fmt.Fprintf(p.stdout, "%s of realm %s %s rewound from %s to %s\n", m.Entity, names.named(m.Realm), verb, m.From.Format(time.RFC3339), c.target()); err != nil {
			return err
		}
	}
	return nil
}

const (
	rewindLease = 30 * time.Second
	rewindPoll  = 200 * time.Millisecond
)

// rewind moves the cursors of a company under the lease that its scans take: one under
// way would move them on again.
func (c *cursorRewindCmd) rewind(ctx context.Context, store *state.Store, realm string, names []string) error {
	patience, cancel := context.WithTimeout(ctx, c.Wait)
	defer cancel()
	var lease *state.Lease
	for {
		var err error
		if lease, err = store.Lease(ctx, reconciler.LeaseName(realm), rewindLease); err == nil {
			break
		}
		if !errors.Is(err, state.ErrHeld) {
			return err
		}
		timer := time.NewTimer(rewindPoll)
		select {
		case <-timer.C:
		case <-patience.Done():
			timer.Stop()
			return fmt.Errorf("a scan of it is under way, and was not over within --wait %s; nothing was done to it", c.Wait)
		}
	}
	if len(names) == 0 {
		names = nil
	}
	err := store.RewindCursors(ctx, realm, names, c.To.at.time())
	if err == nil {
		err = store.ScheduleIn(ctx, realm, 0)
	}
	return errors.Join(err, lease.Release(ctx))
}

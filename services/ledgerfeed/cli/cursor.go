package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

type cursorCmd struct {
	Ls     cursorLsCmd     `cmd:"" help:"List companies with their oldest cursor and next scan."`
	Show   cursorShowCmd   `cmd:"" help:"Show the cursors and latest webhooks of a company."`
	Rewind cursorRewindCmd `cmd:"" help:"Move cursors of companies back and scan from there."`
}

type cursorLsCmd struct {
	redisFlags `embed:""`
	JSON       bool `help:"Print one JSON object per line."`
}

// Help is the long help of the command.
func (cursorLsCmd) Help() string {
	return `Lists the companies that were ever connected, the one that is furthest behind first: its oldest cursor (everything
up to that time, by Intuit's clock, is delivered or a dead letter), when the last webhook was processed, when it
was scanned last and is due next, and how much changes a day.

Examples:
  ledgerfeed cursor ls
  ledgerfeed cursor ls --redis-url redis://127.0.0.1:46379/0
  ledgerfeed cursor ls --json | jq 'select(.age_seconds > 172800) | .realm'`
}

// realmRow is a company in the list.
type realmRow struct {
	Realm         string    `json:"realm"`
	Entities      int       `json:"entities"` // with a cursor
	Oldest        time.Time `json:"oldest,omitzero"`
	AgeSeconds    int64     `json:"age_seconds"`
	LastWebhook   time.Time `json:"last_webhook,omitzero"`
	Scanned       time.Time `json:"scanned,omitzero"`
	Due           time.Time `json:"due,omitzero"`
	ChangesPerDay int       `json:"changes_per_day"`
	Company       string    `json:"company,omitempty"`
}

// Run lists.
func (c *cursorLsCmd) Run(ctx context.Context, p process) error {
	store, err := c.open(ctx, p)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	realms, err := connection.Realms(ctx, store)
	if err != nil {
		return err
	}
	var rows []realmRow
	for _, realm := range realms {
		row, err := rowOf(ctx, store, realm)
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	names, err := companiesOf(ctx, store, rows, func(r realmRow) string { return r.Realm })
	if err != nil {
		return err
	}
	for i, r := range rows {
		rows[i].Company = names[r.Realm]
	}
	slices.SortStableFunc(rows, func(a, b realmRow) int { return a.Oldest.Compare(b.Oldest) })
	if c.JSON {
		return printJSON(p.stdout, rows)
	}
	if len(rows) == 0 {
		fmt.Fprintln(p.stderr, "no company was ever connected")
		return nil
	}
	t := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "REALM\tOLDEST CURSOR\tAGE\tENTITIES\tLAST WEBHOOK\tSCANNED\tDUE\tCHANGES/DAY\tCOMPANY")
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%d\t%s\n", plain(r.Realm), clock(r.Oldest), age(r.Oldest), r.Entities,
			clock(r.LastWebhook), clock(r.Scanned), clock(r.Due), r.ChangesPerDay, short(r.Company))
	}
	return t.Flush()
}

func rowOf(ctx context.Context, store *state.Store, realm string) (realmRow, error) {
	row := realmRow{Realm: realm}
	cursors, err := store.Cursors(ctx, realm)
	if err != nil {
		return row, err
	}
	refused, err := refusalsOf(ctx, store, realm)
	if err != nil {
		return row, err
	}
	for entity, at := range cursors {
		row.Entities++
		if r := refused[entity]; r.Way == state.RefusedByQuery && r.Lasting {
			continue
		}
		if row.Oldest.IsZero() || at.Before(row.Oldest) {
			row.Oldest = at
		}
	}
	if !row.Oldest.IsZero() {
		row.AgeSeconds = int64(time.Since(row.Oldest).Seconds())
	}
	seen, err := store.Freshness(ctx, realm)
	if err != nil {
		return row, err
	}
	for _, one := range seen {
		if one.At.After(row.LastWebhook) {
			row.LastWebhook = one.At
		}
	}
	pace, err := store.Pace(ctx, realm)
	if err != nil {
		return row, err
	}
	row.Scanned, row.ChangesPerDay = pace.Scanned, pace.PerDay
	row.Due, err = store.Due(ctx, realm)
	return row, err
}

type cursorShowCmd struct {
	redisFlags `embed:""`
	Realm      string `required:"" placeholder:"ID" help:"Company id (realmId)."`
	JSON       bool   `help:"Print one JSON object per line."`
}

// Help is the long help of the command.
func (cursorShowCmd) Help() string {
	return `Shows, for each kind of record of a company, its cursor and, beside it, the last webhook that was processed: the
time of its event and what had happened. The webhook says how fresh the feed is; only the cursor says that
nothing before it is missing. An entity without a cursor was never scanned to the end. The note names an entity that
QuickBooks refuses for this company, with its text: it is left out and asked for again after a week.

Examples:
  ledgerfeed cursor show --realm 9341453000000001
  ledgerfeed cursor show --realm 9341453000000001 --json | jq 'select(.entity == "Invoice")'`
}

// cursorRow is an entity of a company.
type cursorRow struct {
	Realm       string    `json:"realm"`
	Entity      string    `json:"entity"`
	Cursor      time.Time `json:"cursor,omitzero"`
	AgeSeconds  int64     `json:"age_seconds"`
	LastWebhook time.Time `json:"last_webhook,omitzero"`
	Operation   string    `json:"operation,omitempty"` // of the last webhook
	// Loaded is how far a first load has come that is not over.
	Loaded  time.Time `json:"loaded,omitzero"`
	Refused string    `json:"refused,omitempty"` // the way of asking that QuickBooks refuses here: cdc, query, filter, count
	// RefusedText is what QuickBooks answered, RefusedSince when it first did.
	RefusedText  string    `json:"refused_text,omitempty"`
	RefusedSince time.Time `json:"refused_since,omitzero"`

	refusal state.Refusal
}

// Run shows.
func (c *cursorShowCmd) Run(ctx context.Context, p process) error {
	choice := realmSelection{Realm: []string{c.Realm}}
	if err := choice.validate(); err != nil {
		return err
	}
	store, err := c.open(ctx, p)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	if _, err := choice.realms(ctx, store); err != nil {
		return err
	}
	rows, err := cursorRows(ctx, store, c.Realm)
	if err != nil {
		return err
	}
	names, err := store.CompanyNames(ctx, []string{c.Realm})
	if err != nil {
		return err
	}
	if c.JSON {
		return printNamed(p.stdout, rows, names, func(r cursorRow) string { return r.Realm })
	}
	if len(rows) == 0 {
		fmt.Fprintf(p.stderr, "realm %s was never scanned\n", companies(names).named(c.Realm))
		return nil
	}
	t := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ENTITY\tCURSOR\tAGE\tLAST WEBHOOK\tOPERATION\tNOTE")
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", plain(r.Entity), clock(r.Cursor), age(r.Cursor), clock(r.LastWebhook), orDash(r.Operation), r.note())
	}
	return t.Flush()
}

func (r cursorRow) note() string {
	switch {
	case r.Refused != "":
		return r.refusal.Words() + ": " + plain(r.RefusedText)
	case !r.Loaded.IsZero() && r.Cursor.IsZero():
		return "loaded up to " + clock(r.Loaded)
	}
	return "-"
}

func cursorRows(ctx context.Context, store *state.Store, realm string) ([]cursorRow, error) {
	cursors, err1 := store.Cursors(ctx, realm)
	seen, err2 := store.Freshness(ctx, realm)
	loaded, err3 := store.Loaded(ctx, realm)
	refused, err4 := refusalsOf(ctx, store, realm)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, err
	}
	by := map[string]*cursorRow{}
	row := func(entity string) *cursorRow {
		if by[entity] == nil {
			by[entity] = &cursorRow{Realm: realm, Entity: entity}
		}
		return by[entity]
	}
	for entity, at := range cursors {
		r := row(entity)
		r.Cursor, r.AgeSeconds = at, int64(time.Since(at).Seconds())
	}
	for _, one := range seen {
		if r := row(one.Entity); one.At.After(r.LastWebhook) {
			r.LastWebhook, r.Operation = one.At, one.Operation
		}
	}
	for entity, at := range loaded {
		row(entity).Loaded = at
	}
	for entity, one := range refused {
		r := row(entity)
		r.Refused, r.RefusedText, r.RefusedSince, r.refusal = one.Way, one.Text, one.First, one
	}
	var rows []cursorRow
	for _, r := range by {
		rows = append(rows, *r)
	}
	slices.SortFunc(rows, func(a, b cursorRow) int { return cmp.Compare(a.Entity, b.Entity) })
	return rows, nil
}

// refusalsOf are the entities that QuickBooks refuses in a company, each by the way of
// asking that concerns most.
func refusalsOf(ctx context.Context, store *state.Store, realm string) (map[string]state.Refusal, error) {
	all, err := store.Refusals(ctx, realm)
	if err != nil {
		return nil, err
	}
	rank := map[string]int{state.RefusedByCount: 1, state.RefusedByFilter: 2, state.RefusedByCDC: 3, state.RefusedByQuery: 4}
	by := map[string]state.Refusal{}
	for _, one := range all {
		if rank[one.Way] > rank[by[one.Entity].Way] {
			by[one.Entity] = one
		}
	}
	return by, nil
}

func age(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := time.Since(t)
	if d >= 48*time.Hour {
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
	return d.Round(time.Second).String()
}

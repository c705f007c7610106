package audit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/idset"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/retry"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
	"github.com/ledgerfeed/ledgerfeed/services/reconciler"
)

const (
	// maxIDs is how many ids one `Id IN (…)` names: some 3 KB of URL.
	maxIDs = 300
	// pollEvery is how often the sink is looked at for changes on their way.
	pollEvery = 250 * time.Millisecond
	// tries bounds how often a call is repeated.
	tries = 5
)

// comparison is of one entity of a realm.
type comparison struct {
	a             *auditor
	realm, entity string

	calls   int
	records int
	alive   int                   // at the sink, when counted
	time    time.Time             // Intuit's clock at the first answer
	shown   *idset.Set            // the ids QuickBooks showed
	found   map[string]difference // maxFound at most
	more    [altered + 1]int      // differences beyond that, by kind
	unread  []time.Time
	verdict state.Audit
}

// difference is a record that is not the same on both sides.
type difference struct {
	id      string
	version int64 // QuickBooks'; a tombstone's if it has none
	held    sink.Row
	hash    string // of QuickBooks' document, where it differs
	kind    kind
}

type kind int

const (
	missing kind = iota
	stale
	extra
	altered // another document of the same version
)

func (c *comparison) reading() reconciler.Reading {
	return reconciler.Reading{Query: c.query, Entity: c.entity, Now: c.a.o.Now}
}

// query asks the API, in turns that live work leaves.
func (c *comparison) query(ctx context.Context, statement string) (res qbo.QueryResult, err error) {
	err = c.call(ctx, func() error {
		res, err = c.a.o.QBO.With(qbo.Backfill).WithMaxResponse(reconciler.PageLimit).Query(ctx, c.realm, statement)
		return err
	})
	if err == nil && c.time.IsZero() {
		c.time = res.Time
	}
	return res, err
}

// call makes a call that is counted, again while repeating may mend it.
func (c *comparison) call(ctx context.Context, do func() error) error {
	again := retry.Calls(tries, func(err error) bool { return qbo.Temporary(err) && !errors.Is(err, state.ErrBudget) })
	return again.Do(ctx, func() error {
		if n := c.a.calls.Add(1); c.a.o.MaxCalls > 0 && n > int64(c.a.o.MaxCalls) {
			c.a.calls.Add(-1)
			return fmt.Errorf("%w: %d", ErrMaxCalls, c.a.o.MaxCalls)
		}
		c.calls++
		if err := do(); err != nil {
			return &apiError{err}
		}
		return nil
	})
}

// count counts on both sides.
func (c *comparison) count(ctx context.Context) (err error) {
	if c.records, err = c.reading().Count(ctx); err != nil {
		return err
	}
	if c.alive, err = c.a.o.Table.Alive(ctx, c.realm, c.entity); err != nil {
		return err
	}
	c.a.tell(func(p *Progress) {
		p.Realm, p.Entity = c.realm, c.entity
		p.Records += c.records
	})
	return nil
}

// run compares the records and leaves the verdict.
func (c *comparison) run(ctx context.Context) error {
	if c.a.o.Quick && c.records == c.alive {
		c.verdict = c.says(CountsAgree)
		c.verdict.UpTo = time.Time{}
		c.a.tell(func(p *Progress) { p.Compared += c.records })
		return nil
	}
	if err := c.read(ctx); err != nil {
		return err
	}
	found, upTo, err := c.settle(ctx)
	if err != nil {
		return err
	}
	c.verdict = c.says(NoGap)
	c.verdict.UpTo, c.verdict.Records = upTo, c.shown.Len()
	c.verdict.Missing, c.verdict.Stale, c.verdict.Extra = c.more[missing], c.more[stale], c.more[extra]
	c.verdict.Differs = c.more[altered]
	for _, d := range found {
		switch d.kind {
		case missing:
			c.verdict.Missing++
		case stale:
			c.verdict.Stale++
		case extra:
			c.verdict.Extra++
		case altered:
			c.verdict.Differs++
		}
	}
	if c.verdict.Gaps() > 0 {
		c.verdict.Verdict, c.verdict.Detail = Gaps, named(found)
	}
	if c.verdict.Gaps() > len(found) {
		c.verdict.Detail += fmt.Sprintf("; only %d were looked at again: audit again after the repair", len(found))
	}
	if len(c.unread) > 0 {
		c.verdict.Verdict, c.verdict.UpTo = Incomplete, time.Time{}
		c.verdict.Detail = fmt.Sprintf("QuickBooks fails on %d records, one last updated at %s", len(c.unread), qbo.FormatTime(c.unread[0]))
	}
	if len(found) > 0 && c.a.o.Repair {
		err = c.repair(ctx, found)
	}
	c.verdict.Calls = c.calls
	return err
}

func (c *comparison) says(verdict string) state.Audit {
	return state.Audit{
		Realm: c.realm, Entity: c.entity, Sink: c.a.o.Sink, Run: c.a.run, At: c.a.o.Now().UTC().Truncate(time.Millisecond),
		Verdict: verdict, UpTo: c.upTo(), Records: c.records, Calls: c.calls,
	}
}

func (c *comparison) failed(err error) state.Audit {
	v := c.says(Incomplete)
	v.UpTo, v.Detail = time.Time{}, strings.Join(strings.Fields(err.Error()), " ")
	return v
}

// upTo is up to when all changes show in what was read.
func (c *comparison) upTo() time.Time {
	if c.time.IsZero() {
		return time.Time{}
	}
	return c.time.Add(-c.a.o.Grace).Truncate(time.Second).UTC()
}

// maxNamed is how many records a verdict names.
const maxNamed = 10

func named(found []difference) string {
	words := map[kind]string{missing: "missing", stale: "stale", extra: "extra", altered: "differs"}
	var names []string
	for _, d := range found[:min(len(found), maxNamed)] {
		names = append(names, words[d.kind]+" "+d.id)
	}
	text := strings.Join(names, ", ")
	if more := len(found) - maxNamed; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// maxFound is how many differences of an entity are kept to look at again. Beyond that
// they are counted.
const maxFound = 100_000

// differs keeps a difference.
func (c *comparison) differs(d difference) {
	if _, ok := c.found[d.id]; !ok && len(c.found) >= maxFound {
		c.more[d.kind]++
		return
	}
	c.found[d.id] = d
}

// read reads what QuickBooks has, and compares it with the sink, page by page, so that
// only differences and hashes of ids are kept. The sink is looked at after QuickBooks.
func (c *comparison) read(ctx context.Context) error {
	c.shown, c.found, c.unread, c.time = idset.New(c.records), map[string]difference{}, nil, time.Time{}
	c.more = [altered + 1]int{}
	reading := c.reading()
	var failed error // of the sink
	reading.Page = func(items []qbo.Entity) error {
		failed = c.page(ctx, items)
		return failed
	}
	reading.Unread = func(second time.Time) { c.unread = append(c.unread, second) }
	if err := reading.Run(ctx); err != nil {
		if failed != nil {
			return failed
		}
		return &apiError{err}
	}
	c.shown.Seal()
	if info, _ := entity.Lookup(c.entity); info.Lasting {
		return nil // QuickBooks may not show all of it, and deletes none
	}
	return c.a.o.Table.Each(ctx, c.realm, c.entity, func(id string, row sink.Row) error {
		if !row.Deleted && !c.shown.Has(id) {
			c.differs(difference{id: id, held: row, kind: extra})
		}
		return nil
	})
}

// page compares one page. A record that comes again, newer, counts as it is then.
func (c *comparison) page(ctx context.Context, items []qbo.Entity) error {
	if len(items) == 0 {
		return nil
	}
	ids := make([]string, len(items))
	for i, item := range items {
		ids[i] = item.ID
		c.shown.Add(item.ID, 0)
	}
	held, err := c.a.o.Table.Versions(ctx, c.realm, c.entity, ids)
	if err != nil {
		return err
	}
	var documents map[string]string
	if c.a.o.Content {
		if documents, err = c.a.o.Table.Documents(ctx, c.realm, c.entity, ids); err != nil {
			return err
		}
	}
	for _, item := range items {
		row, ok := held[item.ID]
		switch version := item.Version(); {
		case !ok || row.Deleted:
			c.differs(difference{id: item.ID, version: version, held: row, kind: missing})
		case row.Version < version:
			c.differs(difference{id: item.ID, version: version, held: row, kind: stale})
		case c.a.o.Content && row.Version == version && documents[item.ID] != qbo.ContentHash(item.Raw):
			c.differs(difference{id: item.ID, version: version, held: row, hash: qbo.ContentHash(item.Raw), kind: altered})
		default:
			delete(c.found, item.ID)
		}
	}
	c.a.tell(func(p *Progress) {
		p.Realm, p.Entity = c.realm, c.entity
		p.Compared += len(items)
	})
	return nil
}

// settle returns what differs, and up to when nothing else does. Both sides change
// while they are read: the sink is looked at again as long as what differs is so young
// that it may be on its way.
func (c *comparison) settle(ctx context.Context) (found []difference, upTo time.Time, err error) {
	found = slices.SortedFunc(maps.Values(c.found), func(a, b difference) int { return strings.Compare(a.id, b.id) })
	if found, err = c.confirm(ctx, found); err != nil || len(found) == 0 {
		return nil, c.upTo(), err
	}
	lately, err := c.lately(ctx, found)
	if err != nil {
		return nil, time.Time{}, err
	}
	young := func(d difference) bool {
		if d.kind == extra {
			return lately[d.id].After(c.upTo())
		}
		return qbo.VersionTime(d.version).After(c.upTo())
	}
	info, _ := entity.Lookup(c.entity)
	underway := func(d difference) bool { return young(d) || d.kind == extra && !info.CDC }
	for end := time.Now().Add(c.a.o.Settle); slices.ContainsFunc(found, underway) && time.Now().Before(end); {
		if err := lifecycle.Sleep(ctx, pollEvery); err != nil {
			return nil, time.Time{}, err
		}
		if found, err = c.still(ctx, found); err != nil {
			return nil, time.Time{}, err
		}
	}
	return slices.DeleteFunc(found, young), c.upTo(), nil
}

// confirm asks for what QuickBooks did not show by its ids: it may have been made since,
// or have failed to be read. What is gone indeed gets the version of a deletion.
func (c *comparison) confirm(ctx context.Context, found []difference) ([]difference, error) {
	var ids []string
	for _, d := range found {
		if d.kind == extra {
			ids = append(ids, d.id)
		}
	}
	there, at, err := c.exist(ctx, ids)
	if err != nil {
		return nil, err
	}
	confirmed := found[:0]
	for _, d := range found {
		if d.kind == extra {
			version, alive := there[d.id]
			switch {
			case !alive:
				d.version = max(qbo.TombstoneVersion(at), qbo.TombstoneVersion(qbo.VersionTime(d.held.Version)))
			case version > d.held.Version:
				d.version, d.kind = version, stale
			default:
				continue
			}
		}
		confirmed = append(confirmed, d)
	}
	return confirmed, nil
}

// exist returns those of the ids that QuickBooks has, with their versions, and when it
// answered last.
func (c *comparison) exist(ctx context.Context, ids []string) (there map[string]int64, at time.Time, err error) {
	there = map[string]int64{}
	info, _ := entity.Lookup(c.entity)
	for part := range slices.Chunk(ids, maxIDs) {
		statement := "SELECT * FROM " + c.entity + " WHERE " + qbo.WithIDs(c.entity, part)
		if info.List {
			statement += " AND Active IN (true, false)"
		}
		res, err := c.query(ctx, fmt.Sprintf("%s MAXRESULTS %d", statement, maxIDs))
		if err != nil {
			return nil, at, fmt.Errorf("find %d records of %s: %w", len(part), c.entity, err)
		}
		for _, item := range res.Entities {
			there[item.ID] = item.Version()
		}
		at = res.Time
	}
	return there, at, nil
}

// lately are the deletions of the last minutes, as far as CDC tells: they may be on
// their way.
func (c *comparison) lately(ctx context.Context, found []difference) (map[string]time.Time, error) {
	gone := map[string]time.Time{}
	info, _ := entity.Lookup(c.entity)
	if !info.CDC || !slices.ContainsFunc(found, func(d difference) bool { return d.kind == extra }) {
		return gone, nil
	}
	var res qbo.CDCResult
	err := c.call(ctx, func() (err error) {
		res, err = c.a.o.QBO.With(qbo.Backfill).CDC(ctx, c.realm, []string{c.entity}, c.upTo())
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, item := range res.Entities[c.entity] {
		if item.Deleted {
			gone[item.ID] = item.LastUpdated
		}
	}
	return gone, nil
}

// still are those of the differences that the sink has not made good.
func (c *comparison) still(ctx context.Context, found []difference) ([]difference, error) {
	var left []difference
	for part := range slices.Chunk(found, 1000) {
		ids := make([]string, len(part))
		for i, d := range part {
			ids[i] = d.id
		}
		held, err := c.a.o.Table.Versions(ctx, c.realm, c.entity, ids)
		if err != nil {
			return nil, err
		}
		for _, d := range part {
			row, ok := held[d.id]
			good := ok && !row.Deleted && row.Version >= d.version
			if d.kind == extra {
				good = !ok || row.Deleted
			}
			if d.kind == altered {
				good = ok && (row.Version > d.version || row.ContentHash == d.hash)
			}
			if !good {
				d.held = row
				left = append(left, d)
			}
		}
	}
	return left, nil
}

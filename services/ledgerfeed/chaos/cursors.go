package chaos

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

// cursors watches the cursors as they move, and compares what they pass with what
// the sinks have at that moment (I4, I8).
type cursors struct {
	plant *plant

	mu   sync.Mutex // guards the rest
	last map[place]time.Time
	// generations count the rewinds of each realm's cursors.
	generations map[string]state.Generation
	// ahead is how far a cursor may be ahead of what the API has shown: a replica that
	// is later than the margin. The next scan begins before that.
	ahead time.Duration
	gen   int // grows when Redis loses what it had
	// blind is how many faults move the cursors by hand now.
	blind int
	// open are the changes that a cursor has passed and no sink was asked for yet.
	open  []passed
	wrong []wrongCursor
	moves int
	// untold are the deletions of records that a sink never had and that no answer
	// can have told, see books.crowded.
	untold map[sink.Ref]bool
}

type place struct{ realm, entity string }

// passed is a change that a cursor says is delivered.
type passed struct {
	ref     sink.Ref
	version int64
	at      int // its place among the states of the record
	deleted bool
	before  time.Time // where the cursor was
	cursor  time.Time
}

func newCursors(p *plant) *cursors {
	return &cursors{plant: p, last: map[place]time.Time{}, generations: map[string]state.Generation{}, untold: map[sink.Ref]bool{}}
}

// wrongCursor is one that should not be where it is, because of a record if ref is
// not zero.
type wrongCursor struct {
	ref  sink.Ref
	sink string // that lacks the record
	text string
}

// cursorMargin is how far a cursor stays behind Intuit's clock, as docs/reconciliation.md
// has it.
const cursorMargin = 2 * time.Minute

const cursorPoll = 100 * time.Millisecond

// run watches until ctx ends.
func (c *cursors) run(ctx context.Context) {
	tick := time.NewTicker(cursorPoll)
	defer tick.Stop()
	for {
		for _, realm := range c.plant.realms {
			c.look(ctx, realm)
		}
		c.judge(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// forget says that Redis loses what it had: cursors go back then.
func (c *cursors) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.last)
	c.gen++
}

// watch says that somebody begins to move cursors by hand, or has done so.
func (c *cursors) watch(on bool) {
	c.forget()
	c.mu.Lock()
	defer c.mu.Unlock()
	if on {
		c.blind--
	} else {
		c.blind++
	}
}

func (c *cursors) look(ctx context.Context, realm string) {
	c.mu.Lock()
	gen := c.gen
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	generation, err := c.plant.state.Generation(ctx, realm)
	if err != nil {
		return // Redis is away
	}
	now, err := c.plant.state.Cursors(ctx, realm)
	if err != nil {
		return
	}
	if again, err := c.plant.state.Generation(ctx, realm); err != nil || again != generation {
		return // moved back just now
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if gen != c.gen || c.blind > 0 {
		return
	}
	// The feed moves cursors back itself where a sink lost changes, by another generation.
	rewound := generation != c.generations[realm]
	c.generations[realm] = generation
	for entity, at := range now {
		where := place{realm, entity}
		before, known := c.last[where]
		if rewound && at.Before(before) {
			before, known = time.Time{}, false
		}
		switch {
		case known && at.Before(before):
			c.wrong = append(c.wrong, wrongCursor{text: fmt.Sprintf("the cursor of realm %s %s went back from %s to %s", realm, entity, before.Format(time.RFC3339), at.Format(time.RFC3339))})
		case at.After(before):
			c.moves++
			from, to := before, at.Add(-c.ahead)
			if !before.IsZero() {
				from = before.Add(-c.ahead)
			}
			c.open = append(c.open, c.plant.books.between(realm, entity, from, to)...)
		}
		c.last[where] = at
	}
	for where := range c.last {
		if _, ok := now[where.entity]; where.realm == realm && !ok {
			delete(c.last, where) // a new sink has all loaded again
		}
	}
}

// between are the records of an entity type that were changed last after from and
// not after to. One that was changed again since is found by the scans that start at
// to: a change is a state, and the API shows the last one only.
func (b *books) between(realm, entity string, from, to time.Time) []passed {
	var all []passed
	for ref, last := range b.Truth(realm) {
		if ref.Entity != entity || last.LastUpdated.After(to) || !last.LastUpdated.After(from) {
			continue
		}
		all = append(all, passed{
			ref:     sink.Ref{Realm: realm, Entity: entity, ID: ref.ID},
			version: last.Version, at: last.Revision, deleted: last.Deleted, before: from, cursor: to,
		})
	}
	return all
}

// crowded reports whether CDC cannot have told all that a cursor passed on its way
// between two times: it answers with 1,000 records of a type at most, and Query, which
// brings the rest, does not show what is gone.
func (b *books) crowded(realm, entity string, from, to time.Time) bool {
	const overlap, margin = 10 * time.Minute, 2 * time.Minute // as docs/reconciliation.md has them
	changed := 0
	for ref := range b.Truth(realm) {
		if ref.Entity == entity && slices.ContainsFunc(b.History(ref), func(s qbosim.State) bool {
			return s.LastUpdated.After(from.Add(-overlap)) && !s.LastUpdated.After(to.Add(margin))
		}) {
			changed++
		}
	}
	return changed >= qbo.MaxObjects
}

// judge compares what was passed with what the sinks hold now, after the cursor was
// seen: they can only have got more since.
func (c *cursors) judge(ctx context.Context) {
	c.mu.Lock()
	open := c.open
	c.open = nil
	c.mu.Unlock()
	if len(open) == 0 {
		return
	}
	refs := make([]sink.Ref, len(open))
	for i, p := range open {
		refs[i] = p.ref
	}
	table, err := c.plant.database.some(ctx, refs)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.open = append(open, c.open...) // the database is away: asked again
		return
	}
	crowded := map[passed]bool{} // asked for each way of a cursor once
	for _, p := range open {
		for name, row := range map[string]sink.Row{sinkTable: table[p.ref], sinkPost: c.plant.endpoint.row(p.ref)} {
			if p.settledBy(row) || !p.deleted && c.plant.books.shows(p.ref, row, qbosim.State{Version: p.version, Revision: p.at}) || !mustHold(p.ref, p.deleted, row) {
				continue
			}
			if c.plant.books.wasHidden(p.ref) {
				continue // no scan was shown it
			}
			if p.deleted && !listed(p.ref.Entity) {
				continue // no cursor speaks for it: two sweeps find it, minutes apart
			}
			if p.deleted && row.Version == 0 {
				way := passed{ref: sink.Ref{Realm: p.ref.Realm, Entity: p.ref.Entity}, before: p.before, cursor: p.cursor}
				if _, known := crowded[way]; !known {
					crowded[way] = c.plant.books.crowded(p.ref.Realm, p.ref.Entity, p.before, p.cursor)
				}
				if crowded[way] {
					c.untold[p.ref] = true
					continue
				}
			}
			c.wrong = append(c.wrong, wrongCursor{ref: p.ref, sink: name, text: fmt.Sprintf("the cursor of realm %s %s is at %s, and the sink %s has of %s version %d instead of %d",
				p.ref.Realm, p.ref.Entity, p.cursor.UTC().Format(time.RFC3339), name, p.ref.ID, row.Version, p.version)})
		}
	}
}

func (p passed) settledBy(row sink.Row) bool {
	if p.deleted {
		return row.Deleted
	}
	return row.Version >= p.version || row.Deleted
}

// leftOut are the deletions that nobody can be told of.
func (c *cursors) leftOut() map[sink.Ref]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.untold)
}

// verdict are the cursors that were wrong, and how often one has moved.
func (c *cursors) verdict() (wrong []wrongCursor, moves int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]wrongCursor(nil), c.wrong...), c.moves
}

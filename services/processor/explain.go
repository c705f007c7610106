package processor

import (
	"context"
	"errors"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

const (
	// A state older than the event is asked for again after lagDelay, once; none
	// is asked for more often, with a growing delay. The API's reads may lag
	// behind its webhooks.
	lagDelay = 1500 * time.Millisecond
	lagTries = 2
	// A record that was never found is left to a scan after so many tries, some 45 s.
	missingTries = 6
	// CDC is asked for what happened since this long before the event.
	cdcOverlap = 5 * time.Minute
	// cdcReach is how far back CDC can be asked, less a day.
	cdcReach = 29 * 24 * time.Hour
)

var (
	errLag     = errors.New("quickbooks does not show the change yet")
	errMissing = errors.New("quickbooks does not know the record and has not reported its deletion")
)

// explain finds out why the API does not know an item. That alone is no proof of
// a deletion: it may not be visible yet (ADR 19).
func (r *reader) explain(ctx context.Context) {
	var ask []*item
	for _, it := range r.absent {
		at, gone := it.buried()
		u := it.last(it.removes)
		switch {
		case gone:
			it.bury(deletion{at: at, covered: newest(it.open()).when(), answered: r.at, confirmed: true})
		case u != nil:
			// An event says it went, and it is not there.
			it.bury(deletion{at: u.when(), covered: u.when(), answered: r.at})
		case it.tries() < lagTries:
			fail([]*item{it}, r.p.later(errLag, 1))
		default:
			ask = append(ask, it)
		}
	}
	ask, err := r.buriedElsewhere(ctx, ask)
	if err != nil {
		fail(ask, paused(err))
		return
	}
	if len(ask) == 0 {
		return
	}
	if !r.known {
		ask = r.reread(ctx, ask)
	}
	changed, at, err := r.changes(ctx, ask)
	if err != nil {
		fail(ask, err)
		return
	}
	whole := r.p.cdcIsWhole(ctx, r.realm)
	for _, it := range ask {
		switch e, ok := changed[it.ref.ID]; {
		case ok && !e.Deleted && !whole:
			r.p.missing(it) // a Query shows it soon, with all its custom fields
		case ok:
			r.p.judge(it, e, at)
		case it.leaving() != nil:
			// A name list record: Query and CDC would show it if it were inactive.
			u := it.leaving()
			it.bury(deletion{at: u.when(), covered: u.when(), answered: r.at})
		case it.tries() < missingTries:
			r.p.missing(it)
		case r.known:
			it.unseen(newest(it.open()).when())
		default:
			r.p.missing(it)
		}
	}
}

// buriedElsewhere makes tombstones of the items that a sink which does not lack them
// was told are gone, and returns the others. A sink that was away for long asks for
// records that have come and gone since.
func (r *reader) buriedElsewhere(ctx context.Context, items []*item) ([]*item, error) {
	if len(items) == 0 {
		return nil, nil
	}
	refs := make([]state.Ref, len(items))
	for i, it := range items {
		refs[i] = it.ref
	}
	gone := make([]int64, len(items))
	for _, out := range r.p.outputs {
		marks, err := r.p.state.Marks(ctx, r.realm, out.Name(), refs)
		if err != nil {
			return items, err
		}
		for i, m := range marks {
			if qbo.IsTombstone(m.Version) {
				gone[i] = max(gone[i], m.Version)
			}
		}
	}
	var left []*item
	for i, it := range items {
		if gone[i] == 0 {
			left = append(left, it)
			continue
		}
		at := qbo.VersionTime(gone[i])
		it.bury(deletion{at: at, covered: at, answered: r.at, confirmed: true})
	}
	return left, nil
}

// buried is when the item went, as a sink that lacks it was told already.
func (it *item) buried() (at time.Time, ok bool) {
	for s := range it.lacking.each() {
		if v := it.marks[s].Version; qbo.IsTombstone(v) {
			return qbo.VersionTime(v), true
		}
	}
	return time.Time{}, false
}

// reread asks by id for records of an entity that is unknown to us: as we do not
// ask for inactive ones in a Query, it may have left them out.
func (r *reader) reread(ctx context.Context, items []*item) []*item {
	r.absent = nil
	for _, it := range items {
		r.readOne(ctx, it, nil)
	}
	return r.absent
}

// changes are what CDC says about an entity since the first event of items.
func (r *reader) changes(ctx context.Context, items []*item) (changed map[string]qbo.Entity, at time.Time, err error) {
	if !r.info.CDC || len(items) == 0 {
		return nil, time.Time{}, nil
	}
	since := began(items, r.p.now()).Add(-cdcOverlap)
	if oldest := r.p.now().Add(-cdcReach); since.Before(oldest) {
		since = oldest
	}
	ctx, cancel := context.WithTimeout(ctx, r.p.config.ReadTimeout)
	defer cancel()
	result, err := r.client.CDC(ctx, r.realm, []string{r.info.Name}, since)
	r.p.count.call("cdc", len(items), err)
	if lasting(err) || qbo.MeaningOf(err) == qbo.MeaningCompanyAccess {
		// Another record is poison, or CDC is refused where Query is not: CDC says nothing.
		return nil, time.Time{}, nil
	}
	if err != nil {
		return nil, time.Time{}, cause(err)
	}
	return byID(result.Entities[r.info.Name]), result.Time, nil
}

// began is when the first of the events happened, now at the latest.
func began(items []*item, now time.Time) time.Time {
	for _, it := range items {
		for _, u := range it.units {
			if at := u.when(); at.Before(now) {
				now = at
			}
		}
	}
	return now
}

// byID is the newest of each: an answer may hold an entity twice.
func byID(entities []qbo.Entity) map[string]qbo.Entity {
	found := make(map[string]qbo.Entity, len(entities))
	for _, e := range entities {
		if held, ok := found[e.ID]; !ok || held.Version() < e.Version() {
			found[e.ID] = e
		}
	}
	return found
}

// missing gives up the units that were tried often enough and puts off the others.
func (p *Processor) missing(it *item) {
	for _, u := range it.open() {
		u.err = p.later(errMissing, u.attempt())
		if u.attempt() >= missingTries {
			u.err = stream.Permanent(stream.ReasonNotFound, errMissing)
		}
	}
}

// later puts off what the API does not show, for longer with each try.
func (p *Processor) later(err error, tries int) error {
	return stream.RetryAfter(err, p.lagDelay<<(min(tries, missingTries)-1))
}

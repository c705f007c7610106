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
	// A record that was never found is given up after so many tries, some 45 s.
	missingTries = 6
	// Where CDC has more to say than an answer holds, its silence means nothing. So
	// often, some half an hour, the event of the deletion is waited for.
	untoldTries = 40
	// CDC is asked for what happened since this long before the event.
	cdcOverlap = 5 * time.Minute
	// cdcReach is how far back CDC can be asked, less a day.
	cdcReach = 29 * 24 * time.Hour
)

var (
	errLag     = errors.New("quickbooks does not show it yet")
	errUntold  = errors.New("quickbooks does not know the record, and has too many changes to say whether it was deleted")
	errMissing = errors.New("quickbooks does not know the record, and nothing says that it was deleted")
)

// explain finds out why the API does not know an item. That alone is no proof of
// a deletion: it may not be visible yet (ADR 3).
func (r *reader) explain(ctx context.Context) {
	var ask []*item
	for _, it := range r.absent {
		u := it.leaving()
		at, gone := it.buried()
		switch {
		case gone:
			it.bury(at, at)
		case u != nil && it.delivered() && it.removes(u):
			// It was there, an event says it went, and it is not there.
			it.bury(u.when(), u.when())
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
	changed, at, whole, err := r.changes(ctx, ask)
	if err != nil {
		fail(ask, err)
		return
	}
	for _, it := range ask {
		e, ok := changed[it.ref.ID]
		u := it.leaving()
		switch {
		case ok:
			r.p.judge(it, e, at)
		case u != nil:
			it.bury(u.when(), u.when())
		case r.known && !r.info.CDC && it.tries() >= missingTries:
			// Nobody will ever say more: CDC does not cover the entity. When it went
			// is not known, but by now it has.
			last := newest(it.units).when()
			if r.at.After(last) {
				last = r.at
			}
			it.bury(last, last)
		case !whole && it.tries() < untoldTries:
			fail([]*item{it}, r.p.later(errUntold, missingTries))
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
		it.bury(at, at)
	}
	return left, nil
}

// buried is when the item went, as a sink that lacks it was told already: only a
// replay asks for such a one again, and it gets the tombstone again (ADR 3).
func (it *item) buried() (at time.Time, ok bool) {
	for s := range it.lacking.each() {
		if v := it.marks[s].Version; qbo.IsTombstone(v) {
			return qbo.VersionTime(v), true
		}
	}
	return time.Time{}, false
}

// removes reports whether u is why an item is gone. Deleting a name list record
// only makes it inactive: what removed it, a merge, came later, and is asked for
// as the tombstone carries its time.
func (it *item) removes(u *unit) bool { return !it.info.List || u.mergedInto != "" || u.version > 0 }

// reread asks by id for records of an entity that is unknown to us: as we do not
// ask for inactive ones in a Query, it may have left them out.
func (r *reader) reread(ctx context.Context, items []*item) []*item {
	r.absent = nil
	for _, it := range items {
		r.readOne(ctx, it, nil)
	}
	return r.absent
}

// changes are what CDC says about an entity since the first event of items, and
// whether that is all there is to say.
func (r *reader) changes(ctx context.Context, items []*item) (changed map[string]qbo.Entity, at time.Time, whole bool, err error) {
	if !r.info.CDC || len(items) == 0 {
		return nil, time.Time{}, true, nil
	}
	since := began(items, r.p.now()).Add(-cdcOverlap)
	if oldest := r.p.now().Add(-cdcReach); since.Before(oldest) {
		since = oldest
	}
	ctx, cancel := context.WithTimeout(ctx, r.p.config.ReadTimeout)
	defer cancel()
	result, err := r.client.CDC(ctx, r.realm, []string{r.info.Name}, since)
	r.p.count.call("cdc", len(items), err)
	if lasting(err) {
		return nil, time.Time{}, true, nil // another record is poison: CDC says nothing
	}
	if err != nil {
		return nil, time.Time{}, false, cause(err)
	}
	return byID(result.Entities[r.info.Name]), result.Time, !result.Truncated(), nil
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

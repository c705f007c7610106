package qbosim

import (
	"slices"
	"sort"
	"strconv"
	"sync"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
)

// realm is one company. Its writes have one order, and a time that never goes
// back.
type realm struct {
	id string
	// nth is its place in the order of adding. What is drawn comes from it, not
	// from the id: the same changes can be made under other ids.
	nth   string
	meter meter

	mu     sync.RWMutex // guards everything below
	tables map[string]*table
	last   time.Time // of the newest write
	steps  uint64    // changes drawn by Step
}

func newRealm(id string, before int) *realm {
	return &realm{id: id, nth: strconv.Itoa(before), tables: map[string]*table{}}
}

// table is one entity type. A table that nobody wrote to does not exist yet.
type table struct {
	info    entity.Info
	records map[string]*record
	order   []*record // as created, hence by id
	live    []*record // not deleted, in no meaningful but a repeatable order
	log     []logged  // every version, by LastUpdatedTime, then in the order of the writes
}

// logged is a version's place in the order of all writes of a table. CDC and
// Query on MetaData.LastUpdatedTime start in it by binary search.
type logged struct {
	record  *record
	version int
}

func (l logged) state() *version { return &l.record.versions[l.version] }

// record is one entity with all it ever was.
type record struct {
	id       string
	place    int // in table.live; -1 once deleted
	versions []version
}

type version struct {
	State
	at time.Time // of the write, in milliseconds; LastUpdated is mostly its second
}

func (r *record) latest() *version { return &r.versions[len(r.versions)-1] }

// asOf is the version that was the latest at t; nil before the record was made.
func (r *record) asOf(t time.Time) *version {
	if v := r.latest(); !v.at.After(t) {
		return v
	}
	n := sort.Search(len(r.versions), func(i int) bool { return r.versions[i].at.After(t) })
	if n == 0 {
		return nil
	}
	return &r.versions[n-1]
}

// currentAsOf says whether this version was the latest of its record at t.
func (l logged) currentAsOf(t time.Time) bool {
	if l.state().at.After(t) {
		return false
	}
	next := l.version + 1
	return next == len(l.record.versions) || l.record.versions[next].at.After(t)
}

// since is the part of the log whose LastUpdatedTime is at or after t.
func (t *table) since(at time.Time) []logged {
	n := sort.Search(len(t.log), func(i int) bool { return !t.log[i].state().LastUpdated.Before(at) })
	return t.log[n:]
}

// insert keeps the log in order. Nearly always that is at its end: a write has
// an older LastUpdatedTime by Faults.BackwardTime and SilentDerived only.
func (t *table) insert(l logged) {
	at := l.state().LastUpdated
	n := len(t.log)
	if n > 0 && t.log[n-1].state().LastUpdated.After(at) {
		n = sort.Search(n, func(i int) bool { return t.log[i].state().LastUpdated.After(at) })
	}
	t.log = slices.Insert(t.log, n, l)
}

func (r *realm) tableLocked(info entity.Info) *table {
	t := r.tables[info.Name]
	if t == nil {
		t = &table{info: info, records: map[string]*record{}}
		r.tables[info.Name] = t
	}
	return t
}

func (t *table) nextID() string { return strconv.Itoa(len(t.order) + 1) }

// applyLocked makes a write visible; it is what replaying the journal repeats.
func (r *realm) applyLocked(info entity.Info, at time.Time, w written) {
	t := r.tableLocked(info)
	rec := t.records[w.ID]
	if rec == nil {
		rec = &record{id: w.ID, place: len(t.live)}
		t.records[w.ID] = rec
		t.order = append(t.order, rec)
		t.live = append(t.live, rec)
	}
	if w.Deleted && rec.place >= 0 {
		end := t.live[len(t.live)-1]
		t.live[rec.place], end.place = end, rec.place
		t.live = t.live[:len(t.live)-1]
		rec.place = -1
	}
	state := w.state(at)
	state.Revision = len(rec.versions) + 1
	rec.versions = append(rec.versions, version{State: state, at: at})
	t.insert(logged{record: rec, version: len(rec.versions) - 1})
	if at.After(r.last) {
		r.last = at
	}
}

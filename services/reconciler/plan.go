package reconciler

import (
	"slices"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
)

const (
	// overlap is how far before the cursor a scan starts: Intuit does not say
	// whether changedSince is inclusive, and its replicas may lag.
	overlap = 10 * time.Minute
	// margin is how far a cursor stays behind Intuit's clock: what was written
	// in the last moments may not show in a scan yet.
	margin = 2 * time.Minute
	// lookBack is how far CDC is asked to look, one day short of Intuit's limit.
	lookBack = 29 * 24 * time.Hour
)

// task is what to ask for one entity.
type task struct {
	entity string
	list   bool      // a name list: Query must name inactive records too
	grace  bool      // it has webhooks, so young changes may be left to them
	cursor time.Time // zero: none, it was never loaded
	load   bool      // everything is read, whatever the cursor says
	count  bool      // the realm does not use it: its records are counted first
	// loaded is how far an earlier attempt at this load has come; zero: nowhere.
	loaded time.Time
	retry  bool // CDC has refused it: it is asked for by itself
	plain  bool // Query cannot filter it: all of it is read
	// changedSince is where CDC starts; zero: CDC is not asked.
	changedSince time.Time
	// query says that Query must be asked whatever CDC answers; else it is the
	// way out when CDC fails. since is where it starts; zero: at the beginning.
	query bool
	since time.Time
}

// plan decides what a scan asks.
func (s *scan) plan(o order) []*finding {
	now := s.r.now()
	var fs []*finding
	for _, name := range s.r.config.CDCEntities {
		t := s.task(name, now, o)
		no := s.refusal(name)
		t.retry = known(no.cdc) || known(no.query)
		if rests(no.cdc, now) && !s.explicit[name] {
			// As for other entities that only Query can find.
			t.changedSince, t.query = time.Time{}, true
			if s.unknown(name, now) || !t.load && !o.everything && !o.recovery && !s.due(name, now) {
				continue
			}
		}
		s.repairFields(&t)
		if s.untold && t.load {
			t.changedSince = time.Time{}
		}
		if o.wants(name) && !s.hasLoaded(o, name) {
			fs = append(fs, newFinding(t))
		}
	}
	return append(fs, s.planQuery(now, o)...)
}

func (s *scan) task(name string, now time.Time, o order) task {
	info, _ := entity.Lookup(name)
	cursor := s.cursors[name]
	// The first load leaves nothing to webhooks: a sink that was added after they
	// came gets them no more.
	t := task{entity: name, list: info.List, grace: len(info.Operations) > 0 && !cursor.IsZero(), cursor: cursor, load: cursor.IsZero() || o.load}
	t.plain = rests(s.refusal(name).filter, now)
	horizon := now.Add(-lookBack).Truncate(time.Second)
	switch {
	case t.load:
		// The load sees what is there; CDC tells what was deleted before it.
		t.changedSince, t.query = horizon, true
		if t.loaded = s.loaded[name]; !t.loaded.IsZero() {
			t.since = t.loaded.Add(-overlap).Truncate(time.Second)
		}
	case cursor.Add(-overlap).Before(horizon):
		t.changedSince, t.query = horizon, true
		t.since = cursor.Add(-overlap).Truncate(time.Second)
	default:
		t.changedSince = cursor.Add(-overlap).Truncate(time.Second)
		t.since = t.changedSince
	}
	return t
}

// groups splits the findings that ask CDC into those that are asked for in one call:
// those that start at their cursor, and those that must look back as far as CDC goes,
// so that the latter do not fill the answer of the former. Each is sorted by its
// start: should the call be cut off, its halves start at different times. An entity that
// was refused is tried again by itself, and first: what answers after it shows that the
// refusal is its own.
func groups(fs []*finding) [][]*finding {
	var recent, old []*finding
	var all [][]*finding
	for _, f := range fs {
		switch {
		case f.changedSince.IsZero():
		case f.retry:
			all = append(all, []*finding{f})
		case f.query:
			old = append(old, f)
		default:
			recent = append(recent, f)
		}
	}
	byStart := func(a, b *finding) int { return a.changedSince.Compare(b.changedSince) }
	slices.SortStableFunc(recent, byStart)
	slices.SortStableFunc(old, byStart)
	return append(all, recent, old)
}

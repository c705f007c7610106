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
	cursor time.Time // zero: none, this is the initial load
	// changedSince is where CDC starts; zero: CDC is not asked.
	changedSince time.Time
	// query says that Query must be asked whatever CDC answers; else it is the
	// way out when CDC fails. since is where it starts; zero: at the beginning.
	query bool
	since time.Time
}

// plan decides what a scan asks. The entities that only Query can find are left
// out while their own interval lasts, as long as the realm is scanned in its
// usual rhythm: a scan out of it was asked for, or comes late after an outage or
// a lapsed authorisation.
func (r *Reconciler) plan(realm string, cursors map[string]time.Time, o order) []*finding {
	now := r.now()
	noCDC, noQuery := r.refused(realm)
	everything := o.everything || !r.inRhythm(cursors, now, o.start)
	var fs []*finding
	for _, name := range r.config.CDCEntities {
		t := newTask(name, cursors[name], now)
		if noCDC[name] {
			t.changedSince, t.query = time.Time{}, true
		}
		if noCDC[name] && noQuery[name] {
			continue
		}
		fs = append(fs, newFinding(t))
	}
	for _, name := range r.config.QueryEntities {
		t := newTask(name, cursors[name], now)
		t.changedSince, t.query = time.Time{}, true
		fresh := !t.cursor.IsZero() && now.Sub(t.cursor)-margin < r.config.queryInterval()
		if noQuery[name] || fresh && !everything {
			continue
		}
		fs = append(fs, newFinding(t))
	}
	return fs
}

func newTask(name string, cursor, now time.Time) task {
	info, _ := entity.Lookup(name)
	// A load leaves nothing to webhooks: a sink that was added after they came
	// gets them no more.
	t := task{entity: name, list: info.List, grace: len(info.Operations) > 0 && !cursor.IsZero(), cursor: cursor}
	horizon := now.Add(-lookBack).Truncate(time.Second)
	switch {
	case cursor.IsZero():
		// The load sees what is there; CDC tells what was deleted before it.
		t.changedSince, t.query = horizon, true
	case cursor.Add(-overlap).Before(horizon):
		t.changedSince, t.query = horizon, true
		t.since = cursor.Add(-overlap).Truncate(time.Second)
	default:
		t.changedSince = cursor.Add(-overlap).Truncate(time.Second)
		t.since = t.changedSince
	}
	return t
}

// inRhythm reports whether about one interval has passed since the last scan.
// A scan because the process has started may come early.
func (r *Reconciler) inRhythm(cursors map[string]time.Time, now time.Time, start bool) bool {
	var last time.Time
	for _, name := range r.config.CDCEntities {
		if cursors[name].After(last) {
			last = cursors[name]
		}
	}
	since := now.Sub(last) - margin
	return (start || since > r.config.Interval/2) && since < r.config.Interval*3/2
}

// groups splits the findings that ask CDC into those that start at their
// cursor and those that must look back as far as CDC goes, so that the latter
// do not fill the answer of the former. Each is sorted by its start: should the
// call be cut off, its halves start at different times.
func groups(fs []*finding) (recent, old []*finding) {
	for _, f := range fs {
		switch {
		case f.changedSince.IsZero():
		case f.query:
			old = append(old, f)
		default:
			recent = append(recent, f)
		}
	}
	byStart := func(a, b *finding) int { return a.changedSince.Compare(b.changedSince) }
	slices.SortStableFunc(recent, byStart)
	slices.SortStableFunc(old, byStart)
	return recent, old
}

// refused returns copies of what the API refuses by name in this realm.
func (r *Reconciler) refused(realm string) (cdc, query map[string]bool) {
	cdc, query = map[string]bool{}, map[string]bool{}
	r.learn(realm, func(s *realmState) {
		for name := range s.noCDC {
			cdc[name] = true
		}
		for name := range s.noQuery {
			query[name] = true
		}
	})
	return cdc, query
}

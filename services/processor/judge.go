package processor

import (
	"encoding/json"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// verdict is what is to be delivered of an item.
type verdict struct {
	change *ledgerfeedv1.Change // nil for nothing
	// covered is up to which event time the change speaks for the events.
	covered time.Time
}

// tries is how often the oldest of the item's messages was delivered.
func (it *item) tries() int {
	tries := 0
	for _, u := range it.units {
		tries = max(tries, u.attempt())
	}
	return tries
}

// delivered reports whether a sink that lacks the item has had it before.
func (it *item) delivered() bool {
	for s := range it.lacking.each() {
		if it.marks[s].Version > 0 {
			return true
		}
	}
	return false
}

// open are the units that some sink lacks the effect of.
func (it *item) open() []*unit {
	var open []*unit
	for _, u := range it.units {
		if u.sinks != 0 {
			open = append(open, u)
		}
	}
	return open
}

// last is the newest open unit that is so; nil if there is none.
func (it *item) last(so func(*unit) bool) *unit {
	units := slices.DeleteFunc(it.open(), func(u *unit) bool { return !so(u) })
	if len(units) == 0 {
		return nil
	}
	return newest(units)
}

// leaving is a unit that says that the entity may be gone: its deletion, or that
// it was merged away; nil if there is none.
func (it *item) leaving() *unit {
	return it.last(func(u *unit) bool { return u.operation == ledgerfeedv1.Operation_OPERATION_DELETE })
}

// judge says for each unit whether the state the API returned includes its
// effect. answered is Intuit's clock at the answer.
func (p *Processor) judge(it *item, e qbo.Entity, answered time.Time) {
	if e.LastUpdated.IsZero() {
		// A record without a time has no version of its own. It is at least as new
		// as the answer.
		if e.LastUpdated = answered; answered.IsZero() {
			e.LastUpdated = newest(it.open()).when()
		}
		e.LastUpdated = e.LastUpdated.Truncate(time.Second)
	}
	if e.Deleted {
		it.bury(e.LastUpdated, newest(it.open()).when())
		return
	}
	var shown []*unit
	for _, u := range it.open() {
		if it.behind(u, e) && u.attempt() < lagTries {
			u.err = p.later(errLag, u.attempt())
			continue
		}
		shown = append(shown, u)
		if at := coveredBy(u, answered); at.After(it.verdict.covered) {
			it.verdict.covered = at
		}
	}
	if len(shown) == 0 {
		return
	}
	it.verdict.change = it.change(newest(shown))
	it.verdict.change.Version = e.Version()
	it.verdict.change.SyncToken = e.SyncToken
	it.verdict.change.LastUpdated = timestamppb.New(e.LastUpdated)
	it.verdict.change.Document = e.Raw
}

// behind reports whether the state is older than the event, as far as times of
// whole seconds tell.
func (it *item) behind(u *unit, e qbo.Entity) bool {
	if u.version > 0 {
		return e.Version() < u.version
	}
	for s := range u.sinks.each() {
		if m := it.marks[s].Version; m > e.Version() && !qbo.IsTombstone(m) {
			return true // older than what was delivered already
		}
	}
	switch {
	case u.occurred.IsZero():
		return false
	case u.operation == ledgerfeedv1.Operation_OPERATION_DELETE && active(e):
		// Deleting a name list record makes it inactive: this is from before.
		return e.LastUpdated.Unix() <= u.occurred.Unix()
	}
	return e.LastUpdated.Unix() < u.occurred.Unix()
}

func active(e qbo.Entity) bool {
	var fields struct{ Active *bool }
	return json.Unmarshal(e.Raw, &fields) != nil || fields.Active == nil || *fields.Active
}

// settled is how much later than an event of whole seconds an answer must be, by
// Intuit's clock, to include every write of that second.
const settled = 2 * time.Second

// coveredBy is up to which event time an answer that includes u's effect speaks
// for. A second update within the same second must not be hidden by the first:
// a time with a fraction of a second speaks for itself, one without for all of
// its second, but only if the answer is from after that (ADR 1).
func coveredBy(u *unit, answered time.Time) time.Time {
	switch {
	case u.version > 0 || u.occurred.IsZero():
		return time.Time{} // its version says enough
	case !answered.IsZero() && u.occurred.After(answered.Add(settled)):
		return time.Time{} // a time that is yet to come would cover what is
	case whole(u.occurred) && answered.Before(u.occurred.Add(settled)):
		return u.occurred.Add(-time.Millisecond)
	}
	return latest(u.occurred)
}

// bury makes the item a tombstone of that time. It is for good, so the version is
// at least the last of the second of what was delivered and of every deletion
// told of: the guard of a sink must let it pass.
func (it *item) bury(at, covered time.Time) {
	version := qbo.TombstoneVersion(at)
	for s := range it.lacking.each() {
		if m := it.marks[s].Version; m > 0 {
			version = max(version, qbo.TombstoneVersion(qbo.VersionTime(m)))
		}
	}
	merged := ""
	for _, u := range it.open() {
		if u.operation == ledgerfeedv1.Operation_OPERATION_DELETE {
			version = max(version, qbo.TombstoneVersion(u.when()))
		}
		if u.mergedInto != "" {
			merged = u.mergedInto
		}
	}
	it.verdict.change = it.change(newest(it.open()))
	it.verdict.change.Version = version
	it.verdict.change.Deleted = true
	it.verdict.change.Operation = ledgerfeedv1.Operation_OPERATION_DELETE
	it.verdict.change.MergedInto = merged
	it.verdict.change.LastUpdated = timestamppb.New(qbo.VersionTime(version))
	it.verdict.covered = latest(covered)
}

// change is what a state and a tombstone have in common. What the newest event
// names was done; the earliest says how it was learned, unless a replay is among
// them: by that word a sink takes the version it has.
func (it *item) change(last *unit) *ledgerfeedv1.Change {
	first := earliest(it.open())
	c := &ledgerfeedv1.Change{
		RealmId: last.from.env.GetRealmId(), Entity: it.ref.Entity, EntityId: it.ref.ID,
		Operation: last.operation, Source: first.source(), EventId: last.event().GetId(),
	}
	if at := first.from.env.GetReceivedAt(); at != nil {
		c.LearnedAt = at
	}
	if it.last((*unit).replay) != nil {
		c.Source = ledgerfeedv1.Source_SOURCE_REPLAY
	}
	return c
}

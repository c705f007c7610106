package processor

import (
	"encoding/json"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"

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
		it.bury(deletion{at: e.LastUpdated, covered: newest(it.open()).when(), answered: answered, confirmed: true})
		return
	}
	var shown []*unit
	for _, u := range it.open() {
		if it.behind(u, e, answered) {
			if u.attempt() < lagTries {
				u.err = p.later(errLag, u.attempt())
				continue
			}
			// The read may be late by more than that, or the event wrong: a scan tells.
			if !sabotage.On(sabotage.StaleReadCovered) {
				it.followUp(state.FollowUpRead, u.when(), true)
			}
		}
		shown = append(shown, u)
		if at := coveredBy(u, answered); at.After(it.verdict.covered) {
			it.verdict.covered = at
		}
	}
	if len(shown) == 0 {
		return
	}
	c := it.change(newest(shown))
	c.Version = e.Version()
	for s := range it.lacking.each() {
		m := it.marks[s].Version
		if qbo.IsTombstone(m) && m > c.Version && !it.restores(s) {
			// A tombstone, and the API shows the record: one of them is late or wrong.
			it.followUp(state.FollowUpTombstone, qbo.VersionTime(m), true)
			continue
		}
		c.Version = max(c.Version, qbo.After(m, c.Version))
	}
	c.SyncToken = e.SyncToken
	c.LastUpdated = timestamppb.New(e.LastUpdated)
	c.Document = e.Raw
	c.ContentHash = qbo.ContentHash(e.Raw)
	if !answered.IsZero() {
		c.ReadAt = timestamppb.New(answered)
	}
	it.verdict.change = c
}

// behind reports whether the state is older than the event, as far as times of
// whole seconds tell. An event that is yet to come says nothing about the state.
func (it *item) behind(u *unit, e qbo.Entity, answered time.Time) bool {
	if u.version > 0 {
		return !it.removes(u) && qbo.Newer(e.Version(), u.version)
	}
	for s := range u.sinks.each() {
		if m := it.marks[s].Version; qbo.Newer(e.Version(), m) && !qbo.IsTombstone(m) {
			return true // older than what was delivered already
		}
	}
	switch {
	case u.occurred.IsZero(), !answered.IsZero() && u.occurred.After(answered.Add(settled)):
		return false
	case it.removes(u):
		return e.LastUpdated.Unix() <= u.occurred.Unix()
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

// deletion is what a tombstone rests on.
type deletion struct {
	at      time.Time // when the record went, as well as it is known
	covered time.Time // up to which event time the tombstone speaks; zero for none
	// answered is Intuit's clock at the answer that did not show the record, or called
	// it deleted; zero if nothing was asked.
	answered time.Time
	// confirmed: ChangeDataCapture said so. Else the next scan asks for the record.
	confirmed bool
}

// bury makes the item a tombstone. Its version is at least the last of the second of
// what was delivered and of every deletion told of: the guard of a sink must let it
// pass. It is never later than the answer: a tombstone from the future would hide what
// is written until then.
func (it *item) bury(d deletion) {
	told := func(at time.Time) time.Time {
		if d.answered.IsZero() || sabotage.On(sabotage.FutureTombstone) {
			return at
		}
		return minTime(at, d.answered)
	}
	version := qbo.TombstoneVersion(told(d.at))
	merged := ""
	for _, u := range it.open() {
		if u.operation == ledgerfeedv1.Operation_OPERATION_DELETE {
			version = max(version, qbo.TombstoneVersion(told(u.when())))
		}
		if u.mergedInto != "" {
			merged = u.mergedInto
		}
	}
	for s := range it.lacking.each() {
		if m := it.marks[s].Version; m > 0 {
			version = max(version, qbo.TombstoneVersion(qbo.VersionTime(m)))
		}
	}
	c := it.change(newest(it.open()))
	c.Version = version
	c.Deleted = true
	c.Operation = ledgerfeedv1.Operation_OPERATION_DELETE
	c.MergedInto = merged
	c.LastUpdated = timestamppb.New(qbo.VersionTime(version))
	if !d.answered.IsZero() {
		c.ReadAt = timestamppb.New(d.answered)
	}
	if c.GetSource() == ledgerfeedv1.Source_SOURCE_RESTORED {
		c.Source = ledgerfeedv1.Source_SOURCE_QUERY // it is not there after all
	}
	it.verdict.change = c
	if !d.covered.IsZero() {
		it.verdict.covered = latest(told(d.covered))
	}
	if !d.confirmed {
		it.followUp(state.FollowUpTombstone, qbo.VersionTime(version), it.young(d.answered))
	}
}

func minTime(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
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
	switch {
	case it.last((*unit).restored) != nil:
		c.Source = ledgerfeedv1.Source_SOURCE_RESTORED
	case it.last((*unit).replay) != nil:
		c.Source = ledgerfeedv1.Source_SOURCE_REPLAY
	}
	return c
}

package processor

import (
	"context"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

const (
	// followUpDelay is when a scan looks at what one answer left open: long enough
	// for one scan to look at much, and for the read lag of most days.
	followUpDelay = 2 * time.Minute
	// lagBound is how late a read may be, by Intuit's clock, before we stop taking
	// lag for the reason that it does not show a record.
	lagBound = 10 * time.Minute
)

// followUp has the realm's next scan look at the item by its id.
func (it *item) followUp(kind state.FollowUpKind, since time.Time, soon bool) {
	if it.follow == nil || since.After(it.follow.Since) {
		it.follow = &state.FollowUp{Ref: it.ref, Kind: kind, Since: since}
	}
	it.soon = it.soon || soon
}

// unseen leaves an item that the API did not show to a scan: it may not be visible
// yet. Its events are acked; the record is newer than its cursor, so that a scan finds
// it even if Redis forgets this.
func (it *item) unseen(since time.Time) {
	it.followUp(state.FollowUpRead, since, true)
	it.left = true
}

// follow notes what the next scan must look at. Before the write: a crash in between
// costs a look, not a tombstone that nobody checks.
func (p *Processor) follow(ctx context.Context, b *batch) error {
	if p.erased(ctx, b.realm) {
		return errParked
	}
	var all []state.FollowUp
	soon := false
	for _, it := range b.items {
		if it.follow != nil {
			it.follow.First = p.now()
			all = append(all, *it.follow)
			soon = soon || it.soon
		}
	}
	if len(all) == 0 || sabotage.On(sabotage.FollowUpDropped) {
		return nil
	}
	if err := p.state.NoteFollowUps(ctx, b.realm, all); err != nil {
		return paused(err)
	}
	p.count.followUps(all)
	sabotage.At(sabotage.Followed)
	if !soon {
		return nil
	}
	if err := p.state.ScheduleIn(ctx, b.realm, followUpDelay); err != nil {
		return paused(err)
	}
	return nil
}

// young reports whether read lag may be why the API does not show the item: no sink
// has it, or it was written within the lag before the answer.
func (it *item) young(answered time.Time) bool {
	newest := int64(0)
	for _, m := range it.marks {
		newest = max(newest, m.Version)
	}
	return newest == 0 || answered.Sub(qbo.VersionTime(newest)) < lagBound
}

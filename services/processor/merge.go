package processor

import (
	"context"
	"slices"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// noteMerges records the merges that the batch tells of. QuickBooks may show a record that
// was merged away for days, and only this event says into which one: whatever tells of its
// end later does not.
func (p *Processor) noteMerges(ctx context.Context, b *batch) error {
	into := map[state.Ref]string{}
	for _, it := range b.items {
		if u := it.merged(); u != nil {
			into[it.ref] = u.mergedInto
		}
	}
	if err := p.state.NoteMerges(ctx, b.realm, into); err != nil {
		return paused(err)
	}
	return nil
}

// merged is the newest unit that says that the item was merged away; nil if there is none.
func (it *item) merged() *unit {
	units := slices.DeleteFunc(slices.Clone(it.units), func(u *unit) bool { return u.mergedInto == "" })
	if len(units) == 0 {
		return nil
	}
	return newest(units)
}

// recallMerges puts into tombstones what an earlier event said of their merge.
func (p *Processor) recallMerges(ctx context.Context, b *batch) error {
	var refs []state.Ref
	var changes []*ledgerfeedv1.Change
	for _, it := range b.items {
		if c := it.verdict.change; c.GetDeleted() && c.GetMergedInto() == "" && it.merges() {
			refs, changes = append(refs, it.ref), append(changes, c)
		}
	}
	if len(refs) == 0 {
		return nil
	}
	into, err := p.state.Merges(ctx, b.realm, refs)
	if err != nil {
		return paused(err)
	}
	for i, c := range changes {
		c.MergedInto = into[i]
	}
	return nil
}

// merges reports whether records of the item's entity can be merged.
func (it *item) merges() bool { return !it.known || slices.Contains(it.info.Operations, "Merge") }

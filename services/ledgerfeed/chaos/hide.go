package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

const (
	// hiddenRecords are more than scans delete by themselves.
	hiddenRecords = 60
	hiddenEntity  = "TimeActivity" // CDC leaves it out: its absence is all there is
	hideWait      = 20 * time.Second
)

// hideRecords makes records that Query does not show any more once the sinks have them, as
// where who connected the company has lost the right to see them. When it ends somebody
// edits them: what changed in between was told to nobody.
func hideRecords(ctx context.Context, r *run, rng *rand.Rand) (func(context.Context) error, string, error) {
	realm := choose(rng, r.load.realms)
	var refs []qbosim.Ref
	for range hiddenRecords {
		ref, err := r.plant.books.Create(realm, hiddenEntity, nil)
		if err != nil {
			return nil, realm, err
		}
		refs = append(refs, ref)
	}
	made := r.plant.books.now()
	// A scan leaves a record alone that is younger than its margin.
	within, cancel := context.WithTimeout(ctx, hideWait)
	defer cancel()
	for !r.delivered(within, refs) || r.plant.books.now().Sub(made) < cursorMargin {
		if lifecycle.Sleep(within, poll) != nil {
			return nothing, realm + ": the sinks do not have them in time", nil
		}
	}
	r.plant.books.hide(refs)
	return func(context.Context) error {
		r.plant.books.show(refs)
		for _, ref := range refs {
			_ = r.load.update(ref) // a deleted one has no more changes
		}
		return nil
	}, fmt.Sprintf("%d records of %s", len(refs), realm), nil
}

// delivered reports whether both sinks have the records.
func (r *run) delivered(ctx context.Context, refs []qbosim.Ref) bool {
	all := make([]sink.Ref, len(refs))
	for i, ref := range refs {
		all[i] = sink.Ref{Realm: ref.Realm, Entity: ref.Entity, ID: ref.ID}
	}
	table, err := r.plant.database.some(ctx, all)
	return err == nil && !slices.ContainsFunc(all, func(ref sink.Ref) bool {
		return table[ref].Version == 0 || r.plant.endpoint.row(ref).Version == 0
	})
}

// hide has no Query show records until show.
func (b *books) hide(refs []qbosim.Ref) {
	b.mu.Lock()
	for _, ref := range refs {
		b.unshown[ref] = true
	}
	b.mu.Unlock()
	b.alter(func(f *qbosim.Faults) { f.Hidden = slices.Concat(f.Hidden, refs) })
}

func (b *books) show(refs []qbosim.Ref) {
	b.alter(func(f *qbosim.Faults) {
		f.Hidden = slices.DeleteFunc(slices.Clone(f.Hidden), func(ref qbosim.Ref) bool { return slices.Contains(refs, ref) })
	})
}

// wasHidden reports whether Query did not show a record for a while.
func (b *books) wasHidden(ref sink.Ref) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.unshown[qbosim.Ref{Realm: ref.Realm, Entity: ref.Entity, ID: ref.ID}]
}

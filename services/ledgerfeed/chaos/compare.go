package chaos

import (
	"fmt"
	"slices"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

// difference is how a sink differs from the books.
type difference struct {
	lost, stale, extra int
	examples           []string
}

func (d difference) equal() bool { return d.lost+d.stale+d.extra == 0 }

// compare looks at every record of either side. A sink need not hold the deletions of
// untold.
func compare(truth map[sink.Ref]qbosim.State, held map[sink.Ref]sink.Row, untold map[sink.Ref]bool) (d difference) {
	example := func(what string, ref sink.Ref, want qbosim.State, got sink.Row) {
		d.examples = append(d.examples, fmt.Sprintf("%s: realm %s %s %s: QuickBooks has version %d deleted %t, the sink has version %d deleted %t learned %s",
			what, ref.Realm, ref.Entity, ref.ID, want.Version, want.Deleted, got.Version, got.Deleted, got.Learned))
	}
	for ref, want := range truth {
		got, ok := held[ref]
		switch {
		case !mustHold(ref, want.Deleted, got), want.Deleted && !ok && untold[ref]:
		case !ok:
			d.lost++
			example("lost", ref, want, got)
		case want.Deleted && !got.Deleted, !want.Deleted && !got.Deleted && got.Version < want.Version:
			d.stale++
			example("stale", ref, want, got)
		case !want.Deleted && (got.Deleted || got.Version > want.Version):
			d.extra++
			example("extra", ref, want, got)
		}
	}
	for ref, got := range held {
		if _, ok := truth[ref]; !ok {
			d.extra++
			example("extra", ref, qbosim.State{}, got)
		}
	}
	slices.Sort(d.examples)
	return d
}

// mustHold leaves out what nobody can learn: a record that was deleted before
// anybody heard of it, of a type whose deletions the API does not tell.
func mustHold(ref sink.Ref, deleted bool, got sink.Row) bool {
	return !deleted || got.Version > 0 || listed(ref.Entity)
}

// listed reports whether CDC tells of the deletions of an entity.
func listed(name string) bool {
	info, ok := entity.Lookup(name)
	return ok && info.CDC
}

// truth is the state of every record of every realm.
func (b *books) truth() map[sink.Ref]qbosim.State {
	all := map[sink.Ref]qbosim.State{}
	for _, realm := range b.Realms() {
		for ref, s := range b.Truth(realm) {
			all[sink.Ref{Realm: realm, Entity: ref.Entity, ID: ref.ID}] = s
		}
	}
	return all
}

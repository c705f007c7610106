package chaos

import (
	"fmt"
	"slices"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

// difference is how a sink differs from the books.
type difference struct {
	lost, stale, extra int
	// wrongTombstones are live records that the sink holds as deleted, and content those
	// it holds at the version of the books with another document. Both are among no other
	// count.
	wrongTombstones, content int
	examples                 []string
}

func (d difference) equal() bool {
	return d.lost+d.stale+d.extra+d.wrongTombstones+d.content == 0
}

func (d difference) String() string {
	return fmt.Sprintf("%d lost, %d stale, %d extra, %d under wrong tombstones, %d with another document",
		d.lost, d.stale, d.extra, d.wrongTombstones, d.content)
}

// excuses are records in which a sink may differ from the books.
type excuses struct {
	// untold are deletions that no answer can have told.
	untold map[sink.Ref]bool
	// pending are records that only a full load brings up to date.
	pending map[sink.Ref]bool
	// unswept: no two sweeps can have been far enough apart to find a deletion that CDC
	// does not tell of.
	unswept bool
	// neverWas says that a webhook told of the deletion of a record that never was: a
	// sink may hold a tombstone of it.
	neverWas func(sink.Ref) bool
}

// lastState is the truth about a record: of several states of one version the last one.
type lastState struct {
	qbosim.State
	hash string
}

// compare looks at all records of either side. The order of the states of a record is
// that in which they were written: the last one at a higher version is equal, for its
// SyncToken may have grown while its time went back.
func compare(truth map[sink.Ref]lastState, held map[sink.Ref]sink.Row, but excuses) (d difference) {
	example := func(what string, ref sink.Ref, want lastState, got sink.Row) {
		d.examples = append(d.examples, fmt.Sprintf("%s: realm %s %s %s: QuickBooks has version %d deleted %t, the sink has version %d deleted %t learned %s",
			what, ref.Realm, ref.Entity, ref.ID, want.Version, want.Deleted, got.Version, got.Deleted, got.Learned))
	}
	for ref, want := range truth {
		got, ok := held[ref]
		same := got.ContentHash == want.hash
		switch {
		case but.pending[ref], but.unswept && want.Deleted && !listed(ref.Entity):
		case !mustHold(ref, want.Deleted, got), want.Deleted && !ok && but.untold[ref]:
		case !ok:
			d.lost++
			example("lost", ref, want, got)
		case !want.Deleted && got.Deleted:
			d.wrongTombstones++
			example("under a wrong tombstone", ref, want, got)
		case want.Deleted && !got.Deleted, !want.Deleted && got.Version < want.Version:
			d.stale++
			example("stale", ref, want, got)
		case want.Deleted:
		case got.Version > want.Version && !same:
			d.extra++
			example("extra", ref, want, got)
		case !same:
			d.content++
			example("another document", ref, want, got)
		}
	}
	for ref, got := range held {
		if _, ok := truth[ref]; ok || got.Deleted && but.neverWas != nil && but.neverWas(ref) {
			continue
		}
		d.extra++
		example("extra", ref, lastState{}, got)
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

// truth is the state of each record of all realms.
func (b *books) truth() map[sink.Ref]lastState {
	all := map[sink.Ref]lastState{}
	for _, realm := range b.Realms() {
		for ref, s := range b.Truth(realm) {
			all[sink.Ref{Realm: realm, Entity: ref.Entity, ID: ref.ID}] = lastState{s, b.hash(ref, s)}
		}
	}
	return all
}

// hash is that of the document of a state, which is asked for again and again.
func (b *books) hash(ref qbosim.Ref, s qbosim.State) string {
	if s.Deleted {
		return ""
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	known, ok := b.hashes[ref]
	if !ok || known.revision != s.Revision {
		known = hashed{s.Revision, qbo.ContentHash(s.Raw)}
		b.hashes[ref] = known
	}
	return known.hash
}

// hashed is the hash of the document of a revision.
type hashed struct {
	revision int
	hash     string
}

// unannounced are the records whose document may have changed while nothing told of it.
func (b *books) unannounced() map[sink.Ref]bool {
	all := map[sink.Ref]bool{}
	for _, realm := range b.Realms() {
		for ref := range b.Truth(realm) {
			history := b.History(ref)
			last := history[len(history)-1]
			if last.Derived && len(history) > 1 && history[len(history)-2].Version == last.Version {
				all[sink.Ref{Realm: realm, Entity: ref.Entity, ID: ref.ID}] = true
			}
		}
	}
	return all
}

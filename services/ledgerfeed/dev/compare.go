package dev

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

const maxExamples = 10

// difference is how a sink at rest differs from the truth.
type difference struct {
	// changes is how many entities the sink must hold, tombstones included.
	changes int
	// lost are missing in the sink; stale are older than the truth, or live
	// though deleted; extra are not in the truth, or deleted though live, or
	// newer than the truth. The truth at a higher version is the truth: a state whose
	// SyncToken grew while its time went back is delivered so. A tombstone of another
	// time is the same deletion, which is told once.
	lost, stale, extra int
	// wrongTombstones are those of extra, or stale, that are deleted though live.
	wrongTombstones int
	// contentDiffers are live at the version of the truth with another document.
	contentDiffers int
	examples       []string
}

// compare looks at every entity of either side.
func compare(truth map[sink.Ref]qbosim.State, held snapshot) difference {
	var d difference
	for _, k := range sortedKeys(truth) {
		want := truth[k]
		got, ok := held[k]
		if !ok && !mustHold(k, want) {
			continue
		}
		d.changes++
		if ok && got.Deleted && !want.Deleted {
			d.wrongTombstones++
		}
		switch {
		case !ok:
			d.lost++
			d.example("lost", k, want, got)
		case want.Deleted && !got.Deleted, !want.Deleted && got.Version < want.Version:
			d.stale++
			d.example("stale", k, want, got)
		case !want.Deleted && got.Deleted, !want.Deleted && got.Version > want.Version && got.content != contentOf(want.Raw):
			d.extra++
			d.example("extra", k, want, got)
		case !want.Deleted && got.content != contentOf(want.Raw):
			d.contentDiffers++
			d.example("another document under the same version", k, want, got)
		}
	}
	for _, k := range sortedKeys(held) {
		if _, ok := truth[k]; !ok {
			d.extra++
			d.example("extra", k, qbosim.State{}, held[k])
		}
	}
	return d
}

// mustHold leaves out what nobody can learn: a record of a type that CDC does
// not cover, deleted before its webhook came or a Query saw it.
func mustHold(k sink.Ref, s qbosim.State) bool {
	if !s.Deleted {
		return true
	}
	info, ok := entity.Lookup(k.Entity)
	return ok && info.CDC
}

// equal says that the sink is as the truth.
func (d *difference) equal() bool {
	return d.lost+d.stale+d.extra+d.wrongTombstones+d.contentDiffers == 0
}

func (d *difference) example(what string, k sink.Ref, want qbosim.State, got holding) {
	if len(d.examples) == maxExamples {
		return
	}
	d.examples = append(d.examples, fmt.Sprintf("%s: realm %s %s %s: QuickBooks has version %d deleted %t, the sink has version %d deleted %t",
		what, k.Realm, k.Entity, k.ID, want.Version, want.Deleted, got.Version, got.Deleted))
}

func sortedKeys[V any](m map[sink.Ref]V) []sink.Ref {
	return slices.SortedFunc(maps.Keys(m), func(a, b sink.Ref) int {
		return cmp.Or(cmp.Compare(a.Realm, b.Realm), cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.ID, b.ID))
	})
}

// truthOf is the state of every entity of every realm.
func truthOf(sim *qbosim.Sim) map[sink.Ref]qbosim.State {
	all := map[sink.Ref]qbosim.State{}
	for _, realm := range sim.Realms() {
		for ref, s := range sim.Truth(realm) {
			all[sink.Ref{Realm: realm, Entity: ref.Entity, ID: ref.ID}] = s
		}
	}
	return all
}

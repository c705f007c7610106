package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
)

// maxReadLag is how late a read may be at most, by Intuit's clock.
const maxReadLag = 5 * time.Minute

// misleadingFaults are what QuickBooks says and is not so, or does not say: deletions
// that never happened, states that share a version, replicas that are late.
func misleadingFaults() []fault {
	set := func(name, group string, weight int, e effects, most time.Duration, on, off func(*qbosim.Faults)) fault {
		return fault{name: name, group: group, least: 2 * time.Second, most: most, weight: weight, effects: e, begin: alter(on, off)}
	}
	return []fault{
		set("read-lag", "api", 3, effects{hides: true}, 10*time.Second, func(f *qbosim.Faults) { f.ReplicaLag = maxReadLag }, func(f *qbosim.Faults) { f.ReplicaLag = 0 }),
		set("read-lag-all", "api", 2, effects{hides: true}, 10*time.Second, func(f *qbosim.Faults) { f.ReadLag = maxReadLag }, func(f *qbosim.Faults) { f.ReadLag = 0 }),
		set("wrong-deletes", "deletes", 3, effects{}, 10*time.Second, func(f *qbosim.Faults) { f.WrongDeletes, f.FutureDeletes = 0.2, 0.3 }, func(f *qbosim.Faults) { f.WrongDeletes, f.FutureDeletes = 0, 0 }),
		{name: "forged-deletes", group: "deletes", least: 0, most: time.Second, weight: 2, begin: forgeDeletes},
		set("bare-deletes", "bare", 2, effects{}, 20*time.Second, func(f *qbosim.Faults) { f.BareDeletes = 0.7 }, func(f *qbosim.Faults) { f.BareDeletes = 0 }),
		set("derived", "derived", 3, effects{}, 10*time.Second, func(f *qbosim.Faults) { f.Derived = 0.5 }, func(f *qbosim.Faults) { f.Derived = 0 }),
		set("derived-silent", "derived", 2, effects{silent: true}, 6*time.Second, func(f *qbosim.Faults) { f.Derived, f.SilentDerived = 0.3, 0.5 }, func(f *qbosim.Faults) { f.Derived, f.SilentDerived = 0, 0 }),
		set("backward-time", "backward", 2, effects{}, 8*time.Second, func(f *qbosim.Faults) { f.BackwardTime = 0.3 }, func(f *qbosim.Faults) { f.BackwardTime = 0 }),
		set("unknown-companies", "unknown", 2, effects{}, 8*time.Second, func(f *qbosim.Faults) { f.UnknownRealms = 0.5 }, func(f *qbosim.Faults) { f.UnknownRealms = 0 }),
		{name: "records-hidden", group: "hidden", least: 4 * time.Second, most: 35 * time.Second, weight: 2, effects: effects{hides: true}, begin: hideRecords},
		{name: "unknown-flood", group: "unknown", least: 0, most: time.Second, weight: 1, begin: floodUnknown},
	}
}

// forgeDeletes has webhooks claim deletions that never happened: of records that were
// changed a moment ago, of some that do not exist, and in the future.
func forgeDeletes(_ context.Context, r *run, rng *rand.Rand) (func(context.Context) error, string, error) {
	var refs []qbosim.Ref
	for range 12 {
		if ref, ok := r.load.recent(rng); ok {
			refs = append(refs, ref)
		}
	}
	realm := choose(rng, r.load.realms)
	for range 3 {
		refs = append(refs, qbosim.Ref{Realm: realm, Entity: choose(rng, []string{"Invoice", "Customer", "Payment"}), ID: fmt.Sprint(900_000 + rng.IntN(1000))})
	}
	sent := 0
	for _, ref := range refs {
		at := time.Time{}
		if rng.IntN(3) == 0 {
			at = r.plant.books.now().Add(time.Hour + span(rng, 365*24*time.Hour))
		}
		if r.plant.books.forge(ref, at) == nil { // of some types Intuit tells no deletions
			sent++
		}
	}
	return nothing, fmt.Sprintf("%d deletions", sent), nil
}

const unknownEvents = 300

// floodUnknown sends events of a company of the app that nobody connected.
func floodUnknown(_ context.Context, r *run, rng *rand.Rand) (func(context.Context) error, string, error) {
	realm := fmt.Sprintf("77770000%07d", rng.IntN(3))
	return nothing, realm, r.plant.books.SendUnknown(realm, unknownEvents)
}

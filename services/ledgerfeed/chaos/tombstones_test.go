package chaos

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

// simulated are books of one company whose clock the test moves.
func simulated(t *testing.T) (b *books, advance func(time.Duration)) {
	t.Helper()
	now := time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)
	sim, err := qbosim.New(qbosim.Options{Seed: 7, Now: func() time.Time { return now }, ClientID: clientID, ClientSecret: clientSecret})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, sim.Close()) })
	sim.AddRealm("1")
	b = &books{Sim: sim, now: func() time.Time { return now }, forged: map[qbosim.Ref]bool{}, hashes: map[qbosim.Ref]hashed{}}
	return b, func(d time.Duration) { now = now.Add(d) }
}

func refOf(r qbosim.Ref) sink.Ref { return sink.Ref{Realm: r.Realm, Entity: r.Entity, ID: r.ID} }

// A tombstone of a record that is there is wrong at once where every answer has shown
// the record, and else as long as it stays.
func TestTombstones_AreComparedWithTheBooks(t *testing.T) {
	b, advance := simulated(t)
	old, err := b.Create("1", "Invoice", nil)
	require.NoError(t, err)
	gone, err := b.Create("1", "Invoice", nil)
	require.NoError(t, err)
	require.NoError(t, b.HardDelete(gone))
	advance(time.Hour)
	b.alter(func(f *qbosim.Faults) { f.ReplicaLag = maxReadLag })
	fresh, err := b.Create("1", "Invoice", nil)
	require.NoError(t, err)
	advance(time.Minute)
	b.alter(func(f *qbosim.Faults) { f.ReplicaLag = 0 })
	advance(time.Minute)
	late, err := b.Create("1", "Invoice", nil)
	require.NoError(t, err)

	said := &front{claimed: map[sink.Ref]bool{refOf(old): true, refOf(fresh): true, refOf(late): true}}
	w := newTombstones(&plant{books: b, front: said})
	at := time.Now()
	w.saw(sinkPost, refOf(gone), true, at)
	require.Equal(t, tombstoneVerdict{tried: true}, w.verdict(at))

	w.saw(sinkPost, refOf(fresh), true, at)
	v := w.verdict(at.Add(time.Second))
	require.Empty(t, v.problems, "a late replica did not show it")
	require.Equal(t, []int{1, 1}, []int{v.ever, v.open})
	require.Equal(t, time.Second, v.longest)
	w.saw(sinkPost, refOf(fresh), false, at.Add(3*time.Second))
	v = w.verdict(at.Add(time.Minute))
	require.Equal(t, []int{1, 0}, []int{v.ever, v.open})
	require.Equal(t, 3*time.Second, v.longest)

	said.claimed[refOf(fresh)] = false
	w.saw(sinkTable, refOf(fresh), true, at)
	require.Len(t, w.verdict(at).problems, 1, "no webhook said so")
	w.saw(sinkTable, refOf(fresh), false, at)
	w.wrong = nil

	for i, ref := range []qbosim.Ref{old, late} {
		w.saw(sinkTable, refOf(ref), true, at)
		w.saw(sinkTable, refOf(ref), true, at.Add(time.Second))
		require.Len(t, w.verdict(at).problems, i+1, "every answer has shown %v", ref)
	}
	require.NoError(t, b.HardDelete(late))
	w.saw(sinkTable, refOf(late), true, at.Add(2*time.Second))
	require.Equal(t, 1, w.verdict(at).open, "it is right by now")
}

// A state is shown by its document where its time went back.
func TestBooks_AStateIsShownByItsDocument(t *testing.T) {
	b, advance := simulated(t)
	b.alter(func(f *qbosim.Faults) { f.BackwardTime = 1 })
	ref, err := b.Create("1", "Customer", nil)
	require.NoError(t, err)
	advance(time.Hour)
	require.NoError(t, b.Update(ref, nil))
	states := b.History(ref)
	require.Len(t, states, 3)
	require.Less(t, states[2].Version, states[1].Version)
	row := func(s qbosim.State) sink.Row {
		return sink.Row{Version: s.Version, ContentHash: b.hash(qbosim.Ref{ID: time.Now().String()}, s)}
	}
	require.True(t, b.shows(refOf(ref), row(states[2]), states[1]), "a later state at a lower version")
	require.False(t, b.shows(refOf(ref), row(states[0]), states[1]))
	require.False(t, b.shows(refOf(ref), sink.Row{}, states[0]))
	require.True(t, b.shows(refOf(ref), sink.Row{Version: 1, Deleted: true}, states[1]))
}

func TestUnturned_NamesWhatNoRestartExplains(t *testing.T) {
	at := time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)
	after := func(all ...time.Duration) (times []time.Time) {
		for _, d := range all {
			times = append(times, at.Add(d))
		}
		return times
	}
	turns := after(0, time.Minute)
	require.Empty(t, unturned(nil, turns))
	require.Empty(t, unturned(map[string][]time.Time{"a": after(time.Second, time.Minute+turnWait)}, turns))
	require.Len(t, unturned(map[string][]time.Time{"a": after(turnWait + time.Second)}, turns), 1, "long after")
	require.Len(t, unturned(map[string][]time.Time{"a": after(-time.Second)}, turns), 1, "before")
	require.Len(t, unturned(map[string][]time.Time{"a": after(1, 2, 3)}, turns), 1, "more often than that happened")
}

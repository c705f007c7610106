package state_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

func TestStore_SinksAreToldOnce(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		register := func(names ...string) []string {
			added, err := s.RegisterSinks(t.Context(), names)
			require.NoError(t, err)
			return added
		}
		require.Equal(t, []string{"jsonl", "pg"}, register("pg", "jsonl"))
		require.Empty(t, register("pg", "jsonl"))
		require.Equal(t, []string{"hook"}, register("hook", "pg"))

		added, err := s.SetSinks(t.Context(), []string{"pg", "nats"})
		require.NoError(t, err)
		require.Equal(t, []string{"nats"}, added)
		names, err := s.Sinks(t.Context())
		require.NoError(t, err)
		require.Equal(t, []string{"nats", "pg"}, names)

		require.Equal(t, []string{"jsonl"}, register("jsonl"), "it comes back as a new one")
		added, err = s.SetSinks(t.Context(), nil)
		require.NoError(t, err)
		require.Empty(t, added)
		names, err = s.Sinks(t.Context())
		require.NoError(t, err)
		require.Empty(t, names)
	})
}

func TestStore_CursorsNeverGoBackByThemselves(t *testing.T) {
	sec := func(n int64) time.Time { return time.Unix(1795435200+n, 0).UTC() }
	everywhere(t, func(t *testing.T, s *state.Store) {
		cursors := func() map[string]time.Time {
			c, err := s.Cursors(t.Context(), "9")
			require.NoError(t, err)
			return c
		}
		advance := func(to map[string]time.Time) {
			require.NoError(t, s.AdvanceCursors(t.Context(), "9", to))
		}
		rewind := func(to time.Time, entities ...string) {
			require.NoError(t, s.RewindCursors(t.Context(), "9", entities, to))
		}
		require.Empty(t, cursors())
		advance(nil)
		advance(map[string]time.Time{"Invoice": {}})
		require.Empty(t, cursors(), "no time is no cursor")

		advance(map[string]time.Time{"Invoice": sec(10), "Customer": sec(20).Add(999 * time.Millisecond)})
		require.Empty(t, cmp.Diff(map[string]time.Time{"Invoice": sec(10), "Customer": sec(20)}, cursors()))
		advance(map[string]time.Time{"Invoice": sec(9), "Customer": sec(21)})
		require.Empty(t, cmp.Diff(map[string]time.Time{"Invoice": sec(10), "Customer": sec(21)}, cursors()))

		rewind(sec(15), "Invoice", "Customer", "Vendor")
		require.Empty(t, cmp.Diff(map[string]time.Time{"Invoice": sec(10), "Customer": sec(15)}, cursors()), "not forward, and none made")
		rewind(sec(5))
		require.Empty(t, cmp.Diff(map[string]time.Time{"Invoice": sec(5), "Customer": sec(5)}, cursors()))
		rewind(time.Time{}, "Invoice")
		require.Empty(t, cmp.Diff(map[string]time.Time{"Customer": sec(5)}, cursors()))
		rewind(time.Time{})
		require.Empty(t, cursors())
	})
}

func TestStore_RewindDropsScansThatWouldUndoIt(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		require.NoError(t, s.AdvanceCursors(t.Context(), "9", map[string]time.Time{"Invoice": noon}))
		require.NoError(t, s.SaveScan(t.Context(), "9", state.Scan{ID: "a"}))
		require.NoError(t, s.SaveScan(t.Context(), "8", state.Scan{ID: "b"}))
		require.NoError(t, s.RewindCursors(t.Context(), "9", []string{"Invoice"}, noon.Add(-time.Hour)))
		for realm, want := range map[string]int{"9": 0, "8": 1} {
			scans, err := s.Scans(t.Context(), realm)
			require.NoError(t, err)
			require.Len(t, scans, want, realm)
		}
	})
}

func TestStore_ScansSurvive(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		first := state.Scan{
			ID: "z", StartedAt: noon, Time: noon.Add(time.Second),
			Cursors: map[string]time.Time{"Invoice": noon},
			Missing: []state.Missing{{Ref: invoice("1"), Version: 1<<53 - 1}},
		}
		second := state.Scan{ID: "a", StartedAt: noon.Add(time.Minute), Time: noon, Cursors: map[string]time.Time{}}
		require.NoError(t, s.SaveScan(t.Context(), "9", second))
		require.NoError(t, s.SaveScan(t.Context(), "9", state.Scan{ID: "z"}))
		require.NoError(t, s.SaveScan(t.Context(), "9", first))

		scans, err := s.Scans(t.Context(), "9")
		require.NoError(t, err)
		require.Empty(t, cmp.Diff([]state.Scan{first, second}, scans))

		require.NoError(t, s.DropScan(t.Context(), "9", "z"))
		require.NoError(t, s.DropScan(t.Context(), "9", "z"))
		scans, err = s.Scans(t.Context(), "9")
		require.NoError(t, err)
		require.Empty(t, cmp.Diff([]state.Scan{second}, scans))
	})
}

func TestStore_DeadVersionsGrow(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		odd := state.Ref{Entity: "A:B", ID: "C:{D}"}
		mark := func(sink string, ref state.Ref, version int64, letter uint64) error {
			return s.MarkDead(t.Context(), "9", time.Hour, state.DeadRecord{Ref: ref, Sink: sink, Version: version, Letter: letter})
		}
		for i, v := range []int64{5, 1<<53 - 1, 7} {
			require.NoError(t, mark("pg", invoice("1"), v, uint64(i)))
		}
		require.NoError(t, mark("s:1}:", odd, 3, 17))
		require.Error(t, mark("pg", invoice("1"), 1<<53, 0))

		refs := []state.Ref{invoice("2"), invoice("1"), {Entity: "A", ID: "B:C:{D}"}, odd}
		dead := func(sink string) (versions []int64) {
			all, err := s.Dead(t.Context(), "9", sink, refs)
			require.NoError(t, err)
			for i, d := range all {
				require.Equal(t, refs[i], d.Ref)
				versions = append(versions, d.Version)
			}
			return versions
		}
		require.Equal(t, []int64{0, 1<<53 - 1, 0, 0}, dead("pg"))
		require.Equal(t, []int64{0, 0, 0, 3}, dead("s:1}:"))
		require.Equal(t, []int64{0, 0, 0, 0}, dead(""), "a sink that is added later")
		many, err := s.Dead(t.Context(), "9", "pg", make([]state.Ref, 2500))
		require.NoError(t, err)
		require.Len(t, many, 2500)
	})
}

// A letter of a sink ends where that sink gets the version, or a newer one; those of
// the other sinks stay.
func TestStore_AMarkEndsTheDeadLettersItReaches(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		refs := []state.Ref{invoice("1"), invoice("2"), {Entity: "A:B", ID: "C:D"}}
		for _, sink := range []string{"pg", "a:b}:c"} {
			for _, ref := range refs {
				require.NoError(t, s.MarkDead(t.Context(), "9", time.Hour, state.DeadRecord{Ref: ref, Sink: sink, Version: 5, Letter: 3}))
			}
		}
		require.NoError(t, s.Advance(t.Context(), "9", "a:b}:c", []state.Advance{
			{Ref: refs[0], Version: 5}, {Ref: refs[1], Version: 4}, {Ref: refs[2], Version: 6},
		}))
		versions := func(sink string) (all []int64) {
			dead, err := s.Dead(t.Context(), "9", sink, refs)
			require.NoError(t, err)
			for _, d := range dead {
				all = append(all, d.Version)
			}
			return all
		}
		require.Equal(t, []int64{0, 5, 0}, versions("a:b}:c"))
		require.Equal(t, []int64{5, 5, 5}, versions("pg"))
		require.NoError(t, s.Advance(t.Context(), "8", "pg", []state.Advance{{Ref: refs[0], Version: 9}}))
		require.Equal(t, []int64{5, 5, 5}, versions("pg"), "another realm")
	})
}

// What has expired excuses no sink, but QuickBooks has the record all the same: it
// counts until a sink has it. So does what an earlier version recorded.
func TestStore_UndeliveredOutlivesItsLetter(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		mark := func(id string, life time.Duration) {
			require.NoError(t, s.MarkDead(t.Context(), "9", life, state.DeadRecord{Ref: invoice(id), Sink: "pg", Version: 5}))
		}
		mark("1", -time.Second)
		mark("2", time.Hour)
		mark("3", -time.Second)
		mark("4", time.Hour)
		require.NoError(t, s.MarkDead(t.Context(), "9", time.Hour, state.DeadRecord{Ref: state.Ref{Entity: "RecurringInvoice", ID: "1"}, Sink: "pg", Version: 5}))
		require.NoError(t, s.Redis().HSet(t.Context(), "lf:1:dead:{9}", "Invoice:5", 7).Err())

		refs := []state.Ref{invoice("1"), invoice("2"), invoice("5")}
		dead, err := s.Dead(t.Context(), "9", "pg", refs)
		require.NoError(t, err)
		require.Equal(t, []int64{0, 5, 0}, []int64{dead[0].Version, dead[1].Version, dead[2].Version})

		delivered := map[string]int64{"3": 5, "4": 5}
		has := func(id string) bool { return delivered[id] > 0 }
		left, err := s.Undelivered(t.Context(), "9", "Invoice", has)
		require.NoError(t, err)
		require.Equal(t, map[string]int64{"1": 5, "2": 5, "5": 7}, left)
		n, err := s.Redis().HLen(t.Context(), "lf:1:dead:{9}").Result()
		require.NoError(t, err)
		require.EqualValues(t, 5, n, "3 is over in every way")

		require.NoError(t, s.ForgetDead(t.Context(), "9", "Invoice", map[string]bool{"1": true, "5": true}))
		left, err = s.Undelivered(t.Context(), "9", "Invoice", has)
		require.NoError(t, err)
		require.Equal(t, map[string]int64{"2": 5}, left)
	})
}

func TestStore_BehindKeepsTheOldest(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		note := func(sink string, at time.Time) {
			require.NoError(t, s.NoteBehind(t.Context(), "9", sink, map[string]time.Time{"Invoice": at, "A:B": noon}))
		}
		note("pg", noon)
		note("pg", noon.Add(-time.Hour))
		note("pg", noon.Add(time.Hour))
		note("jsonl", noon)
		read := func() map[string]state.Behind {
			all := map[string]state.Behind{}
			notes, next, err := s.Behind(t.Context(), "pg", 0)
			require.NoError(t, err)
			require.Zero(t, next)
			for _, n := range notes {
				require.Equal(t, "9", n.Realm)
				all[n.Entity] = n
			}
			return all
		}
		notes := read()
		require.Len(t, notes, 2)
		require.Equal(t, noon.Add(-time.Hour), notes["Invoice"].Oldest)
		require.Equal(t, noon, notes["A:B"].Oldest)

		// Something is noted while another process looks after what it has read.
		require.NoError(t, s.NoteBehind(t.Context(), "9", "pg", map[string]time.Time{"Invoice": noon}))
		require.NoError(t, s.EndBehind(t.Context(), "pg", []state.Behind{notes["Invoice"], notes["A:B"]}))
		notes = read()
		require.Len(t, notes, 1)
		require.Equal(t, noon.Add(-time.Hour), notes["Invoice"].Oldest)
		require.NoError(t, s.EndBehind(t.Context(), "pg", []state.Behind{notes["Invoice"]}))
		n, err := s.CountBehind(t.Context(), "pg")
		require.NoError(t, err)
		require.Zero(t, n)
		n, err = s.CountBehind(t.Context(), "jsonl")
		require.NoError(t, err)
		require.EqualValues(t, 2, n)
	})
}

func TestStore_ARealmIsUnconnectedForTheFirstTimeOnceADay(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		first := func(app, realm string) bool {
			is, err := s.FirstUnconnected(t.Context(), app, realm)
			require.NoError(t, err)
			return is
		}
		require.True(t, first("app", "1"))
		require.False(t, first("app", "1"))
		require.True(t, first("app", "2"))
		require.True(t, first("other", "1"))
		require.NoError(t, s.ForgetUnconnected(t.Context(), "app", "1"))
		require.True(t, first("app", "1"))
	})
}

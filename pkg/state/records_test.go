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
		for _, v := range []int64{5, 1<<53 - 1, 7} {
			require.NoError(t, s.MarkDead(t.Context(), "9", invoice("1"), v))
		}
		require.NoError(t, s.MarkDead(t.Context(), "9", state.Ref{Entity: "A:B", ID: "C"}, 3))
		require.Error(t, s.MarkDead(t.Context(), "9", invoice("1"), 1<<53))

		refs := []state.Ref{invoice("2"), invoice("1"), {Entity: "A", ID: "B:C"}, {Entity: "A:B", ID: "C"}}
		dead, err := s.Dead(t.Context(), "9", refs)
		require.NoError(t, err)
		require.Equal(t, []int64{0, 1<<53 - 1, 0, 3}, dead)
		dead, err = s.Dead(t.Context(), "9", make([]state.Ref, 2500))
		require.NoError(t, err)
		require.Equal(t, make([]int64, 2500), dead)
	})
}

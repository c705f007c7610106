package state_test

import (
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 123e6, time.UTC)

func invoice(id string) state.Ref { return state.Ref{Entity: "Invoice", ID: id} }

func TestStore_MarksGrowEachByItself(t *testing.T) {
	const v = 1795435200000005
	everywhere(t, func(t *testing.T, s *state.Store) {
		for _, step := range []struct {
			name string
			a    state.Advance
			want state.Mark
		}{
			{"first", state.Advance{Version: v, Covered: noon}, state.Mark{Version: v, Covered: noon}},
			{"same again", state.Advance{Version: v, Covered: noon}, state.Mark{Version: v, Covered: noon}},
			{"older version, later event", state.Advance{Version: v - 1, Covered: noon.Add(time.Millisecond)}, state.Mark{Version: v, Covered: noon.Add(time.Millisecond)}},
			{"newer version, earlier event", state.Advance{Version: v + 1, Covered: noon}, state.Mark{Version: v + 1, Covered: noon.Add(time.Millisecond)}},
			{"no event", state.Advance{Version: v + 2}, state.Mark{Version: v + 2, Covered: noon.Add(time.Millisecond)}},
			{"no version", state.Advance{Covered: noon.Add(time.Hour)}, state.Mark{Version: v + 2, Covered: noon.Add(time.Hour)}},
			{"event before 1970", state.Advance{Version: 1, Covered: time.Unix(-1, 0)}, state.Mark{Version: v + 2, Covered: noon.Add(time.Hour)}},
			{"event beyond what is exact", state.Advance{Version: 1, Covered: time.Unix(1<<60, 0)}, state.Mark{Version: v + 2, Covered: noon.Add(time.Hour)}},
		} {
			step.a.Ref = invoice("1")
			require.NoError(t, s.Advance(t.Context(), "9", "pg", []state.Advance{step.a}), step.name)
			marks, err := s.Marks(t.Context(), "9", "pg", []state.Ref{invoice("1")})
			require.NoError(t, err)
			require.Empty(t, cmp.Diff([]state.Mark{step.want}, marks), step.name)
		}
	})
}

func TestStore_MarksLoseNoPrecision(t *testing.T) {
	const top = 1<<53 - 1
	everywhere(t, func(t *testing.T, s *state.Store) {
		ref := []state.Ref{invoice("1")}
		covered := time.UnixMilli(top / 1000 * 1000 / 1000).UTC()
		for v := int64(top - 20); v <= top; v++ {
			require.NoError(t, s.Advance(t.Context(), "9", "pg", []state.Advance{{Ref: ref[0], Version: v, Covered: covered}}))
			marks, err := s.Marks(t.Context(), "9", "pg", ref)
			require.NoError(t, err)
			require.Equal(t, state.Mark{Version: v, Covered: covered}, marks[0])
		}
		require.ErrorContains(t, s.Advance(t.Context(), "9", "pg", []state.Advance{{Ref: ref[0], Version: top + 1}}), "Invoice 1 of realm 9")
		require.ErrorContains(t, s.Advance(t.Context(), "9", "pg", []state.Advance{{Ref: ref[0], Version: -1}}), "out of range")
	})
}

func TestStore_MarksComeInOrderOverEntities(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		var as []state.Advance
		var refs []state.Ref
		var want []state.Mark
		for i := range 2500 { // more than one command holds
			ref := state.Ref{Entity: []string{"Invoice", "Customer", "Odd:{}% name"}[i%3], ID: strconv.Itoa(i / 3)}
			refs = append(refs, ref)
			if i%5 == 0 {
				want = append(want, state.Mark{})
				continue
			}
			as = append(as, state.Advance{Ref: ref, Version: int64(i), Covered: noon})
			want = append(want, state.Mark{Version: int64(i), Covered: noon})
		}
		require.NoError(t, s.Advance(t.Context(), "9", "pg", as))
		marks, err := s.Marks(t.Context(), "9", "pg", refs)
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(want, marks))

		for _, other := range [][2]string{{"9", "jsonl"}, {"8", "pg"}, {"9:pg", ""}} {
			marks, err := s.Marks(t.Context(), other[0], other[1], refs[:10])
			require.NoError(t, err)
			require.Empty(t, cmp.Diff(make([]state.Mark, 10), marks), other)
		}
	})
}

func TestStore_MarksFromAnEmptyDatabase(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		marks, err := s.Marks(t.Context(), "9", "pg", []state.Ref{invoice("1")})
		require.NoError(t, err)
		require.Equal(t, []state.Mark{{}}, marks)
		marks, err = s.Marks(t.Context(), "9", "pg", nil)
		require.NoError(t, err)
		require.Empty(t, marks)
		require.NoError(t, s.Advance(t.Context(), "9", "pg", nil))
		live, err := s.LiveIDs(t.Context(), "9", "pg", "Invoice")
		require.NoError(t, err)
		require.Empty(t, live)
	})
}

// The highest of each stays, whatever the order in which writers come.
func TestStore_AdvanceIsMonotonicUnderContention(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				for i := range 25 {
					n := int64((i*7 + w*11) % 200)
					a := state.Advance{Ref: invoice("1"), Version: 1e15 + n, Covered: noon.Add(time.Duration(199-n) * time.Millisecond)}
					if err := s.Advance(t.Context(), "9", "pg", []state.Advance{a}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		highest, lowest := int64(0), int64(200)
		for w := range 8 {
			for i := range 25 {
				n := int64((i*7 + w*11) % 200)
				highest, lowest = max(highest, n), min(lowest, n)
			}
		}
		marks, err := s.Marks(t.Context(), "9", "pg", []state.Ref{invoice("1")})
		require.NoError(t, err)
		want := state.Mark{Version: 1e15 + highest, Covered: noon.Add(time.Duration(199-lowest) * time.Millisecond)}
		require.Equal(t, want, marks[0])
	})
}

// A value that somebody else wrote counts as no mark, and is replaced.
func TestStore_UnreadableMarkIsNone(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		ref := []state.Ref{invoice("1")}
		require.NoError(t, s.Advance(t.Context(), "9", "pg", []state.Advance{{Ref: ref[0], Version: 7}}))
		all := keys(t, s)
		require.Len(t, all, 1)
		require.NoError(t, s.Redis().HSet(t.Context(), all[0], "1", "what?").Err())

		marks, err := s.Marks(t.Context(), "9", "pg", ref)
		require.NoError(t, err)
		require.Equal(t, state.Mark{}, marks[0])
		require.NoError(t, s.Advance(t.Context(), "9", "pg", []state.Advance{{Ref: ref[0], Version: 3}}))
		marks, err = s.Marks(t.Context(), "9", "pg", ref)
		require.NoError(t, err)
		require.Equal(t, state.Mark{Version: 3}, marks[0])
	})
}

func TestStore_LiveIDsLeaveTombstonesOut(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		var as []state.Advance
		want := make(map[string]int64)
		for i := range 3000 {
			a := state.Advance{Ref: invoice(fmt.Sprintf("id-%d", i)), Version: int64(i+1)*1e6 + 3}
			if i%3 == 0 {
				a.Version = int64(i+1)*1e6 + 999999
			} else {
				want[a.ID] = a.Version
			}
			as = append(as, a)
		}
		as = append(as, state.Advance{Ref: state.Ref{Entity: "Customer", ID: "1"}, Version: 5e6})
		// Only an event is known of it: the sink has nothing.
		as = append(as, state.Advance{Ref: invoice("covered"), Covered: noon})
		require.NoError(t, s.Advance(t.Context(), "9", "pg", as))
		live, err := s.LiveIDs(t.Context(), "9", "pg", "Invoice")
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(want, live))
	})
}

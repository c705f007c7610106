package state_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// cursorBench is the cursors of realm 9.
type cursorBench struct {
	t *testing.T
	s *state.Store
}

func (b cursorBench) generation() state.Generation {
	b.t.Helper()
	g, err := b.s.Generation(b.t.Context(), "9")
	require.NoError(b.t, err)
	return g
}

func (b cursorBench) move(m state.Move) []string {
	b.t.Helper()
	moved, err := b.s.MoveCursors(b.t.Context(), "9", m)
	require.NoError(b.t, err)
	slices.Sort(moved)
	return moved
}

func (b cursorBench) rewind(entities []string, to time.Time) {
	b.t.Helper()
	require.NoError(b.t, b.s.RewindCursors(b.t.Context(), "9", entities, to))
}

func (b cursorBench) are(want map[string]time.Time) {
	b.t.Helper()
	got, err := b.s.Cursors(b.t.Context(), "9")
	require.NoError(b.t, err)
	require.Empty(b.t, cmp.Diff(want, got))
}

func TestCursors_MoveForwardOnly(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		b := cursorBench{t, s}
		at := noon.Truncate(time.Second)
		to := map[string]time.Time{"Invoice": at, "Bill": at.Add(time.Hour), "Item": {}}
		require.Equal(t, []string{"Bill", "Invoice", "Item"}, b.move(state.Move{To: to}))
		b.are(map[string]time.Time{"Invoice": at, "Bill": at.Add(time.Hour)})
		require.Equal(t, []string{"Bill"}, b.move(state.Move{From: to, To: map[string]time.Time{"Bill": at}}))
		b.are(map[string]time.Time{"Invoice": at, "Bill": at.Add(time.Hour)})
	})
}

// A scan is held up between what it has read and its move, while others act.
func TestCursors_AMoveDoesNotUndoARewind(t *testing.T) {
	at := noon.Truncate(time.Second)
	from := map[string]time.Time{"Invoice": at, "Bill": at}
	day := 24 * time.Hour
	for _, tc := range []struct {
		name      string
		meanwhile func(cursorBench)
		moved     []string
		want      map[string]time.Time
	}{
		{"nothing happens", func(cursorBench) {}, []string{"Bill", "Invoice"}, map[string]time.Time{"Invoice": at.Add(day), "Bill": at.Add(day)}},
		{"all are forgotten", func(b cursorBench) { b.rewind(nil, time.Time{}) }, nil, map[string]time.Time{}},
		{"all go back", func(b cursorBench) { b.rewind(nil, at.Add(-day)) }, nil, map[string]time.Time{"Invoice": at.Add(-day), "Bill": at.Add(-day)}},
		{"another one goes back", func(b cursorBench) { b.rewind([]string{"Bill"}, at.Add(-day)) }, nil, map[string]time.Time{"Invoice": at, "Bill": at.Add(-day)}},
		{"they go back and forward again", func(b cursorBench) {
			b.rewind(nil, at.Add(-day))
			b.move(state.Move{Generation: b.generation(), To: from})
		}, nil, from},
		{"an older version forgets one", func(b cursorBench) {
			require.NoError(b.t, b.s.Redis().ZRem(b.t.Context(), state.Key("cur", "9"), "Bill").Err())
		}, []string{"Invoice"}, map[string]time.Time{"Invoice": at.Add(day)}},
		{"an older version drops the saved scan", func(b cursorBench) {
			require.NoError(b.t, b.s.DropScan(b.t.Context(), "9", "a"))
		}, nil, from},
	} {
		t.Run(tc.name, func(t *testing.T) {
			everywhere(t, func(t *testing.T, s *state.Store) {
				b := cursorBench{t, s}
				b.move(state.Move{To: from})
				m := state.Move{Generation: b.generation(), Scan: "a", From: from, To: map[string]time.Time{"Invoice": at.Add(day), "Bill": at.Add(day)}}
				require.NoError(t, s.SaveScan(t.Context(), "9", state.Scan{ID: "a"}))
				tc.meanwhile(b)
				require.ElementsMatch(t, tc.moved, b.move(m))
				b.are(tc.want)
			})
		})
	}
}

// What a scan of before a rewind writes down would make the next one cover less.
func TestCursors_ARewindForgetsWhatEarlierScansHaveNoted(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		b, ctx := cursorBench{t, s}, t.Context()
		note := func(g state.Generation) {
			require.NoError(t, s.KeepLoaded(ctx, "9", g, "Invoice", noon))
			require.NoError(t, s.KeepPace(ctx, "9", g, state.Pace{Scanned: noon}))
		}
		noted := func() bool {
			loaded, err := s.Loaded(ctx, "9")
			require.NoError(t, err)
			pace, err := s.Pace(ctx, "9")
			require.NoError(t, err)
			require.Equal(t, len(loaded) > 0, !pace.Scanned.IsZero())
			return len(loaded) > 0
		}
		before := b.generation()
		note(before)
		require.True(t, noted())
		b.rewind(nil, time.Time{})
		require.False(t, noted())
		require.NotEqual(t, before, b.generation())
		note(before)
		require.False(t, noted())
		note(b.generation())
		require.True(t, noted())
	})
}

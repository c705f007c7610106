package state_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

func TestStore_FollowUpsKeepTheirFirstTimeAndTheLatestEvent(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		ctx := t.Context()
		first := state.FollowUp{Ref: invoice("1"), Kind: state.FollowUpRead, Since: noon, First: noon}
		require.NoError(t, s.NoteFollowUps(ctx, "9", []state.FollowUp{first}))
		all, err := s.FollowUps(ctx, "9")
		require.NoError(t, err)
		require.Len(t, all, 1)
		require.NoError(t, s.RetryFollowUps(ctx, "9", all))
		// Noted again: its kind is the newest, its Since the latest, and the rest stays.
		again := state.FollowUp{Ref: invoice("1"), Kind: state.FollowUpTombstone, Since: noon.Add(-time.Minute), First: noon.Add(time.Hour)}
		require.NoError(t, s.NoteFollowUps(ctx, "9", []state.FollowUp{again}))
		now, err := s.FollowUps(ctx, "9")
		require.NoError(t, err)
		require.Len(t, now, 1)
		require.Equal(t, state.FollowUpTombstone, now[0].Kind)
		require.Equal(t, []any{noon, noon, 1}, []any{now[0].Since, now[0].First, now[0].Tries})
		// What was read before that ends nothing.
		require.NoError(t, s.EndFollowUps(ctx, "9", all))
		still, err := s.FollowUps(ctx, "9")
		require.NoError(t, err)
		require.Equal(t, now, still)
		require.NoError(t, s.EndFollowUps(ctx, "9", now))
		none, err := s.FollowUps(ctx, "9")
		require.NoError(t, err)
		require.Empty(t, none)
	})
}

func TestStore_AMarkIsRestoredFromATombstoneOnly(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		ctx, ref := t.Context(), invoice("1")
		const live, gone, later = 1795435200000005, 1795435260999999, 1795435300000006
		step := func(want state.Mark, a state.Advance) {
			t.Helper()
			a.Ref = ref
			require.NoError(t, s.Advance(ctx, "9", "pg", []state.Advance{a}))
			marks, err := s.Marks(ctx, "9", "pg", []state.Ref{ref})
			require.NoError(t, err)
			require.Equal(t, want, marks[0])
		}
		step(state.Mark{Version: live, Hash: "a"}, state.Advance{Version: live, Hash: "a"})
		step(state.Mark{Version: live, Hash: "b"}, state.Advance{Version: live, Hash: "b"})
		step(state.Mark{Version: live, Hash: "b", Covered: noon}, state.Advance{Version: live, Covered: noon})
		step(state.Mark{Version: gone, Covered: noon}, state.Advance{Version: gone})
		step(state.Mark{Version: gone, Covered: noon}, state.Advance{Version: live, Hash: "b"})
		step(state.Mark{Version: live, Hash: "b"}, state.Advance{Version: live, Hash: "b", Restore: true})
		step(state.Mark{Version: later, Hash: "c"}, state.Advance{Version: later, Hash: "c"})
		step(state.Mark{Version: later, Hash: "c"}, state.Advance{Version: live, Hash: "b", Restore: true})
	})
}

// What the version before wrote, and what it makes of ours.
func TestStore_MarksWithoutAHashAreReadAndGrow(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		ctx, ref := t.Context(), invoice("1")
		require.NoError(t, s.Redis().HSet(ctx, "lf:1:mark:{9}:pg:Invoice", "1", "1795435200000005,1795435200000").Err())
		marks, err := s.Marks(ctx, "9", "pg", []state.Ref{ref})
		require.NoError(t, err)
		require.Equal(t, state.Mark{Version: 1795435200000005, Covered: time.UnixMilli(1795435200000).UTC()}, marks[0])
		require.NoError(t, s.Advance(ctx, "9", "pg", []state.Advance{{Ref: ref, Version: 1795435200000006, Hash: "x"}}))
		require.Equal(t, "1795435200000006,1795435200000,x", s.Redis().HGet(ctx, "lf:1:mark:{9}:pg:Invoice", "1").Val())
	})
}

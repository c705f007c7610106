package state_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

func TestSinkPosition_KeepsWhatMustGoBack(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		ctx := t.Context()
		position := func() state.SinkPosition {
			p, err := s.SinkPosition(ctx, "a sink")
			require.NoError(t, err)
			return p
		}
		require.Empty(t, position().ID)
		want := state.SinkPosition{ID: "x", Server: "1", N: 7, Again: noon, Rewinds: map[state.Rewind]time.Time{
			{Realm: "9:1", Entity: "Invoice"}: noon.Truncate(time.Second), {Realm: "9", Entity: "Bill"}: {},
		}}
		for r, to := range want.Rewinds {
			require.NoError(t, s.NoteRewind(ctx, "a sink", r, to))
		}
		require.NoError(t, s.SetSinkPosition(ctx, "a sink", want))
		require.Empty(t, cmp.Diff(want, position()))
		require.NoError(t, s.ClearRewind(ctx, "a sink", state.Rewind{Realm: "9", Entity: "Bill"}))
		require.Len(t, position().Rewinds, 1)
	})
}

// A mark that has moved since it was read is somebody's who has written to the sink.
func TestMarks_AreLoweredOnlyAsTheyWereRead(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		ctx := t.Context()
		advance := func(id string, version int64) {
			require.NoError(t, s.Advance(ctx, "9", "pg", []state.Advance{{Ref: invoice(id), Version: version, Covered: noon}}))
		}
		for _, id := range []string{"1", "2", "3"} {
			advance(id, 10)
		}
		var lower []state.Lower
		for page, err := range s.MarkPages(ctx, "9", "pg", "Invoice") {
			require.NoError(t, err)
			for _, m := range page {
				lower = append(lower, state.Lower{HeldMark: m, To: map[string]int64{"2": 5}[m.ID]})
			}
		}
		require.Len(t, lower, 3)
		advance("3", 11)
		n, err := s.LowerMarks(ctx, "9", "pg", "Invoice", lower)
		require.NoError(t, err)
		require.Equal(t, 2, n)
		marks, err := s.Marks(ctx, "9", "pg", []state.Ref{invoice("1"), invoice("2"), invoice("3")})
		require.NoError(t, err)
		require.Equal(t, []state.Mark{{}, {Version: 5}, {Version: 11, Covered: noon}}, marks)

		marked, err := s.Marked(ctx, "9", "pg", []string{"Bill", "Invoice"})
		require.NoError(t, err)
		require.Equal(t, []string{"Invoice"}, marked)
		require.NoError(t, s.DropMarks(ctx, "9", "pg", []string{"Bill", "Invoice"}))
		marked, err = s.Marked(ctx, "9", "pg", []string{"Bill", "Invoice"})
		require.NoError(t, err)
		require.Empty(t, marked)
	})
}

func TestRegistration_IsTheLastOneAndWhoUsesIt(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		ctx, now := t.Context(), noon
		state.SetNow(s, func() time.Time { return now })
		none, err := s.Registration(ctx)
		require.NoError(t, err)
		require.Empty(t, none.Config)
		want := state.Registration{Config: "c", Filters: map[string]string{"a": "", "b": "entity=Bill"}}
		require.NoError(t, s.SetRegistration(ctx, want))
		got, err := s.Registration(ctx)
		require.NoError(t, err)
		require.Equal(t, want, got)

		use := func(id, config string) map[string]string {
			configs, err := s.UseConfig(ctx, "processor", id, config)
			require.NoError(t, err)
			return configs
		}
		use("1", "b")
		require.Equal(t, map[string]string{"1": "b", "2": "c"}, use("2", "c"))
		require.NoError(t, s.LeaveConfig(ctx, "processor", "2", "c"))
		now = now.Add(30 * time.Second)
		require.Equal(t, map[string]string{"1": "b", "3": "c"}, use("3", "c"))
		now = now.Add(30 * time.Second)
		require.Equal(t, map[string]string{"3": "c"}, use("3", "c"), "the first one died")
	})
}

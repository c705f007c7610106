package state_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

func TestStore_AbsencesKeepWhenTheyWereFirstMissed(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		ctx := t.Context()
		note := func(a state.Absence) map[string][]state.Absence {
			t.Helper()
			full, err := s.NoteAbsences(ctx, "9", []state.Absence{a})
			require.NoError(t, err)
			require.False(t, full)
			all, err := s.Absences(ctx, "9")
			require.NoError(t, err)
			return all
		}
		none, err := s.Absences(ctx, "9")
		require.NoError(t, err)
		require.Empty(t, none)
		one := state.Absence{Ref: invoice("1"), Version: 5, First: noon}
		require.Equal(t, map[string][]state.Absence{"Invoice": {one}}, note(one))
		later := one
		later.First = noon.Add(time.Hour)
		require.Equal(t, map[string][]state.Absence{"Invoice": {one}}, note(later), "it keeps the first")
		later.Version = 6
		require.Equal(t, map[string][]state.Absence{"Invoice": {later}}, note(later), "another state was delivered since")
		other := state.Absence{Ref: state.Ref{Entity: "Vendor", ID: "a:b"}, Version: 7, First: noon}
		require.Len(t, note(other), 2)
		require.NoError(t, s.EndAbsences(ctx, "9", []state.Ref{one.Ref, invoice("2")}))
		left, err := s.Absences(ctx, "9")
		require.NoError(t, err)
		require.Equal(t, map[string][]state.Absence{"Vendor": {other}}, left)
	})
}

func TestStore_AbsencesAreBounded(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		all := make([]state.Absence, state.MaxAbsences+10)
		for i := range all {
			all[i] = state.Absence{Ref: invoice(fmt.Sprint(i)), Version: 5, First: noon}
		}
		full, err := s.NoteAbsences(t.Context(), "9", all)
		require.NoError(t, err)
		require.True(t, full)
		noted, err := s.Absences(t.Context(), "9")
		require.NoError(t, err)
		require.Len(t, noted["Invoice"], state.MaxAbsences)
		full, err = s.NoteAbsences(t.Context(), "9", all[:5])
		require.NoError(t, err)
		require.False(t, full, "those are noted")
	})
}

func TestStore_HeldDeletionsAreDecidedOnce(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		ctx := t.Context()
		hold := func(realm, entity string) state.HeldDeletion {
			t.Helper()
			h, err := s.HeldDeletion(ctx, realm, entity)
			require.NoError(t, err)
			h.State, h.Count, h.Of, h.Since, h.At = state.DeletionHeld, 30, 100, noon, noon
			require.NoError(t, s.HoldDeletion(ctx, h))
			h, err = s.HeldDeletion(ctx, realm, entity)
			require.NoError(t, err)
			return h
		}
		_, err := s.ApproveDeletion(ctx, "9", "Invoice", "ann")
		require.ErrorIs(t, err, state.ErrNotHeld)
		before := hold("9", "Invoice")
		hold("8", "Vendor")
		all, err := s.HeldDeletions(ctx)
		require.NoError(t, err)
		require.Equal(t, []string{"8", "9"}, []string{all[0].Realm, all[1].Realm})

		approved, err := s.ApproveDeletion(ctx, "9", "Invoice", "ann")
		require.NoError(t, err)
		require.Equal(t, state.DeletionApproved, approved.State)
		require.Equal(t, "ann", approved.By)
		_, err = s.RejectDeletion(ctx, "9", "Invoice", "bob")
		require.ErrorIs(t, err, state.ErrNotHeld, "it is decided")
		// A scan that read it before the decision does not undo it.
		before.Count = 31
		require.NoError(t, s.HoldDeletion(ctx, before))
		require.NoError(t, s.EndHeldDeletion(ctx, before))
		now, err := s.HeldDeletion(ctx, "9", "Invoice")
		require.NoError(t, err)
		require.Equal(t, approved, now)
		require.NoError(t, s.EndHeldDeletion(ctx, now))
		now, err = s.HeldDeletion(ctx, "9", "Invoice")
		require.NoError(t, err)
		require.Empty(t, now.State)

		_, err = s.NoteAbsences(ctx, "8", []state.Absence{
			{Ref: state.Ref{Entity: "Vendor", ID: "1"}, Version: 5, First: noon}, {Ref: invoice("1"), Version: 5, First: noon},
		})
		require.NoError(t, err)
		rejected, err := s.RejectDeletion(ctx, "8", "Vendor", "ann")
		require.NoError(t, err)
		require.Equal(t, 1, rejected.Rejections)
		left, err := s.Absences(ctx, "8")
		require.NoError(t, err)
		require.NotContains(t, left, "Vendor")
		require.Contains(t, left, "Invoice")
	})
}

func TestStore_EachMarkReadsAllInParts(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		ctx := t.Context()
		var as []state.Advance
		for i := range 2500 {
			as = append(as, state.Advance{Ref: invoice(fmt.Sprint(i)), Version: int64(i + 1)})
		}
		require.NoError(t, s.Advance(ctx, "9", "pg", as))
		n, err := s.MarkedRecords(ctx, "9", "pg", "Invoice")
		require.NoError(t, err)
		require.Equal(t, 2500, n)
		got := map[string]int64{}
		require.NoError(t, s.EachMark(ctx, "9", "pg", "Invoice", func(records []state.Record) error {
			for _, r := range records {
				got[r.ID] = r.Version
			}
			return nil
		}))
		require.Len(t, got, 2500)
		require.EqualValues(t, 8, got["7"])
	})
}

func TestStore_SweepsAndCountsAreKept(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		ctx := t.Context()
		w, err := s.Swept(ctx, "9", "Invoice")
		require.NoError(t, err)
		require.Zero(t, w)
		at := noon.Truncate(time.Second)
		want := state.Sweep{Began: at, At: at.Add(-time.Hour)}
		require.NoError(t, s.SetSwept(ctx, "9", "Invoice", want))
		w, err = s.Swept(ctx, "9", "Invoice")
		require.NoError(t, err)
		require.Equal(t, want, w)
		require.NoError(t, s.SetSwept(ctx, "9", "Invoice", state.Sweep{}))
		counted, err := s.Counted(ctx, "9")
		require.NoError(t, err)
		require.Empty(t, counted)
		require.NoError(t, s.SetCounted(ctx, "9", map[string]time.Time{"Invoice": at}))
		counted, err = s.Counted(ctx, "9")
		require.NoError(t, err)
		require.Equal(t, map[string]time.Time{"Invoice": at}, counted)
		require.Len(t, keys(t, s), 1)
	})
}

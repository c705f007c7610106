package state_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

func TestEntityUse_IsKeptByEntity(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		use := func(realm string) map[string]state.EntityUse {
			u, err := s.EntityUse(t.Context(), realm)
			require.NoError(t, err)
			return u
		}
		require.Empty(t, use("1"))
		second := noon.Truncate(1e9)
		require.NoError(t, s.SetEntityUse(t.Context(), "1", map[string]state.EntityUse{"TaxRate": {Used: true, Counted: second}, "TimeActivity": {Counted: noon}}))
		require.NoError(t, s.SetEntityUse(t.Context(), "1", map[string]state.EntityUse{"TaxRate": {Used: true}}))
		require.NoError(t, s.SetEntityUse(t.Context(), "1", nil))
		want := map[string]state.EntityUse{"TaxRate": {Used: true}, "TimeActivity": {Counted: second}}
		require.Empty(t, cmp.Diff(want, use("1")))
		require.Empty(t, use("2"))

		// What cannot be read is as good as unknown.
		require.NoError(t, s.Redis().HSet(t.Context(), state.Key("use", "1"), "Spaceship", "maybe").Err())
		require.Empty(t, cmp.Diff(want, use("1")))
	})
}

func TestDelivered_IsWhatSomeSinkHasAMarkOf(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		require.NoError(t, s.Advance(t.Context(), "1", "pg", []state.Advance{{Ref: state.Ref{Entity: "TaxRate", ID: "1"}, Version: 1}}))
		require.NoError(t, s.Advance(t.Context(), "1", "jsonl", []state.Advance{{Ref: state.Ref{Entity: "TaxCode", ID: "1"}, Version: 1}}))
		require.NoError(t, s.Advance(t.Context(), "2", "pg", []state.Advance{{Ref: state.Ref{Entity: "Currency", ID: "1"}, Version: 1}}))
		names := []string{"Currency", "TaxCode", "TaxRate", "TimeActivity"}
		got, err := s.Delivered(t.Context(), "1", []string{"jsonl", "pg"}, names)
		require.NoError(t, err)
		require.Equal(t, map[string]bool{"TaxCode": true, "TaxRate": true}, got)
		got, err = s.Delivered(t.Context(), "1", []string{"pg"}, names)
		require.NoError(t, err)
		require.Equal(t, map[string]bool{"TaxRate": true}, got)
		got, err = s.Delivered(t.Context(), "1", nil, names)
		require.NoError(t, err)
		require.Empty(t, got)
	})
}

package state_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

func TestCustomFields_WhatCDCHasShownSinceTheProbeIsRepaired(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) { customFields(t, s) })
}

func customFields(t *testing.T, s *state.Store) {
	t.Helper()
	ctx := t.Context()
	probed := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	known := func() state.CustomFields {
		c, err := s.CustomFields(ctx, "1")
		require.NoError(t, err)
		return c
	}
	require.False(t, known().Whole(), "nobody has looked")
	require.NoError(t, s.NoteFieldsProbed(ctx, "1", probed))
	require.True(t, known().Whole(), "no record is known to have more")
	require.NoError(t, s.NoteEnhancedFields(ctx, "1"))
	require.Equal(t, state.CustomFields{Enhanced: true, Probed: probed, Repair: probed}, known())
	require.False(t, known().Whole())
	require.NoError(t, s.EndFieldsRepair(ctx, "1"))
	require.NoError(t, s.NoteEnhancedFields(ctx, "1"))
	require.Zero(t, known().Repair, "it is repaired once")
	require.NoError(t, s.NoteCDCFields(ctx, "1"))
	require.True(t, known().Whole())

	require.NoError(t, s.NoteEnhancedFields(ctx, "2"))
	c, err := s.CustomFields(ctx, "2")
	require.NoError(t, err)
	require.Zero(t, c.Repair, "never probed: all was read by Query")
}

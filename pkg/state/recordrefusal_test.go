package state_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

func TestRecordRefusals_AreKeptUntilTheyEnd(t *testing.T) {
	t.Parallel()
	s, err := state.Open(t.Context(), state.Options{Config: at(devtest.Redis(t))})
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	ctx := t.Context()
	a, b, c := state.Ref{Entity: "Bill", ID: "1:2"}, state.Ref{Entity: "Bill", ID: "2"}, state.Ref{Entity: "Invoice", ID: "1:2"}
	one := state.RecordRefusal{Ref: a, Meaning: "request", First: noon, Last: noon.Add(time.Minute), Times: 2}
	other := state.RecordRefusal{Ref: c, Meaning: "request", First: noon, Last: noon, Times: 1}
	require.NoError(t, s.KeepRecordRefusals(ctx, "1", []state.RecordRefusal{one, other}))
	got, err := s.RecordRefusals(ctx, "1", []state.Ref{a, b, c})
	require.NoError(t, err)
	require.Empty(t, cmp.Diff([]state.RecordRefusal{one, {Ref: b}, other}, got))
	got, err = s.RecordRefusals(ctx, "2", []state.Ref{a})
	require.NoError(t, err)
	require.Zero(t, got[0].Times)

	require.NoError(t, s.EndRecordRefusals(ctx, "1", []state.Ref{a, b}))
	got, err = s.RecordRefusals(ctx, "1", []state.Ref{a, c})
	require.NoError(t, err)
	require.Equal(t, []int{0, 1}, []int{got[0].Times, got[1].Times})
	ttl, err := s.Redis().PTTL(ctx, "lf:1:unread:{1}").Result()
	require.NoError(t, err)
	require.Greater(t, ttl, time.Hour, "it goes by itself")
}

package stream_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

func TestConn_EachDeadFinds(t *testing.T) {
	b := setup(t)
	now := time.Now().Truncate(time.Second)
	for i, d := range []stream.DeadLetter{
		{Reason: stream.ReasonSinkRefused, RealmID: "1", Sink: "crm", Envelope: env("1", 7), At: now.Add(-time.Hour)},
		{Reason: stream.ReasonSinkRefused, RealmID: "2", Sink: "postgres", Envelope: env("2", 7), At: now.Add(-2 * time.Minute)},
		{Reason: stream.ReasonUnreadable, Body: []byte("?"), At: now.Add(-time.Minute)},
		{Reason: stream.ReasonPoison, RealmID: "1", Envelope: env("1", 8), At: now},
	} {
		d.ID = fmt.Sprint(i)
		require.NoError(t, b.conn.PublishDead(t.Context(), d))
	}
	for _, tc := range []struct {
		name   string
		filter stream.DeadFilter
		want   []uint64
	}{
		{"all", stream.DeadFilter{}, []uint64{1, 2, 3, 4}},
		{"a reason", stream.DeadFilter{Reasons: []stream.Reason{stream.ReasonSinkRefused}}, []uint64{1, 2}},
		{"reasons", stream.DeadFilter{Reasons: []stream.Reason{stream.ReasonPoison, stream.ReasonUnreadable, stream.ReasonPoison}}, []uint64{3, 4}},
		{"realm", stream.DeadFilter{RealmID: "1"}, []uint64{1, 4}},
		{"reason and realm", stream.DeadFilter{RealmID: "1", Reasons: []stream.Reason{stream.ReasonSinkRefused}}, []uint64{1}},
		{"sink", stream.DeadFilter{Sink: "postgres"}, []uint64{2}},
		{"entity", stream.DeadFilter{Entity: "Invoice"}, []uint64{1, 2, 4}},
		{"record", stream.DeadFilter{Entity: "Invoice", EntityID: "7"}, []uint64{1, 2}},
		{"another entity", stream.DeadFilter{Entity: "Bill", EntityID: "7"}, nil},
		{"since", stream.DeadFilter{Since: now.Add(-2 * time.Minute)}, []uint64{2, 3, 4}},
		{"until", stream.DeadFilter{Until: now.Add(-2 * time.Minute)}, []uint64{1}},
		{"future", stream.DeadFilter{Since: now.Add(24 * time.Hour)}, nil},
		{"unknown realm", stream.DeadFilter{RealmID: "nobody's"}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []uint64
			require.NoError(t, b.conn.EachDead(within(t, 30*time.Second), tc.filter, func(d stream.DeadLetter) error {
				got = append(got, d.Seq)
				return nil
			}))
			require.Equal(t, tc.want, got)
			require.Equal(t, tc.name == "all", tc.filter.All())
		})
	}
	stop := errors.New("enough")
	require.ErrorIs(t, b.conn.EachDead(t.Context(), stream.DeadFilter{}, func(stream.DeadLetter) error { return stop }), stop)
}

// Letters may be deleted, by others or by each itself, while they are read.
func TestConn_EachDeadWhileTheyAreDeleted(t *testing.T) {
	b := setup(t)
	const n = 2000
	for i := range n {
		require.NoError(t, b.conn.PublishDead(t.Context(), stream.DeadLetter{ID: fmt.Sprint(i), Reason: stream.ReasonPoison, RealmID: "1", Envelope: env("1", i), At: at}))
	}
	seen := 0
	require.NoError(t, b.conn.EachDead(within(t, time.Minute), stream.DeadFilter{}, func(d stream.DeadLetter) error {
		if seen++; seen == 1 {
			s, err := b.js.Stream(t.Context(), "LF_DEAD")
			require.NoError(t, err)
			require.NoError(t, s.Purge(t.Context()))
		}
		return nil
	}))
	require.Positive(t, seen)
	require.LessOrEqual(t, seen, n)
}

package dev

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// place that refuses while err is set.
type refusing struct{ err error }

func (r *refusing) Name() string                                        { return "refusing" }
func (r *refusing) Write(context.Context, []*ledgerfeedv1.Change) error { return r.err }
func (r *refusing) Close() error                                        { return nil }

func TestTally_CountsWhatTheSinkTook(t *testing.T) {
	ctx := context.Background()
	to, firsts := &refusing{}, 0
	before := snapshot{{Realm: "1", Entity: "Bill", ID: "9"}: holding{Row: sink.Row{Version: 90}}}
	tl := newTally(to, before, func(time.Time) { firsts++ })
	change := func(entity, id string, version int64, source ledgerfeedv1.Source) []*ledgerfeedv1.Change {
		return []*ledgerfeedv1.Change{{RealmId: "1", Entity: entity, EntityId: id, Version: version, Source: source}}
	}
	const (
		webhook = ledgerfeedv1.Source_SOURCE_WEBHOOK
		cdc     = ledgerfeedv1.Source_SOURCE_CDC
	)

	to.err = errors.New("disk full")
	require.ErrorIs(t, tl.Write(ctx, change("Invoice", "1", 10, webhook)), to.err)
	require.Zero(t, tl.Counts().delivered)
	require.Zero(t, firsts)

	to.err = nil
	require.NoError(t, tl.Write(ctx, change("Invoice", "1", 10, webhook)))
	require.NoError(t, tl.Write(ctx, change("Invoice", "1", 11, cdc)))
	require.NoError(t, tl.Write(ctx, change("Invoice", "1", 11, webhook))) // again
	require.NoError(t, tl.Write(ctx, change("Invoice", "1", 10, webhook))) // back
	require.NoError(t, tl.Write(ctx, change("Invoice", "2", 10, webhook))) // another id
	require.NoError(t, tl.Write(ctx, change("Bill", "9", 90, webhook)))    // held before the start

	to.err = &sink.PartialError{Errs: []error{to.err, errors.New("not now")}} // one of two
	pair := append(change("Invoice", "2", 11, webhook), change("Invoice", "3", 11, webhook)...)
	require.ErrorIs(t, tl.Write(ctx, pair), to.err)

	got := tl.Counts()
	require.Equal(t, 7, got.delivered)
	require.Equal(t, 2, got.duplicates)
	require.Equal(t, 1, got.backwards)
	require.Equal(t, 1, firsts)
	if diff := cmp.Diff(map[ledgerfeedv1.Source]int{webhook: 6, cdc: 1}, got.bySource); diff != "" {
		t.Errorf("by source (-want +got):\n%s", diff)
	}
}

// Another document of a version is no duplicate, and a record that lives again
// after a wrong tombstone does not go back.
func TestTally_TellsOtherContentFromADuplicate(t *testing.T) {
	tl := newTally(&refusing{}, nil, func(time.Time) {})
	write := func(c *ledgerfeedv1.Change) {
		t.Helper()
		c.RealmId, c.Entity, c.EntityId = "1", "Customer", "2"
		require.NoError(t, tl.Write(t.Context(), []*ledgerfeedv1.Change{c}))
	}
	want := func(duplicates, backwards int) {
		t.Helper()
		got := tl.Counts()
		require.Equal(t, []int{duplicates, backwards}, []int{got.duplicates, got.backwards})
	}
	write(&ledgerfeedv1.Change{Version: 10, Document: []byte(`{"Balance":1.00,"Id":"2"}`)})
	write(&ledgerfeedv1.Change{Version: 10, Document: []byte(`{"Balance":2.00,"Id":"2"}`)})
	want(0, 0)
	write(&ledgerfeedv1.Change{Version: 10, Document: []byte(`{"Id":"2", "Balance":2.00}`)})
	want(1, 0)
	write(&ledgerfeedv1.Change{Version: 90, Deleted: true})
	write(&ledgerfeedv1.Change{Version: 10, Document: []byte(`{"Balance":2.00,"Id":"2"}`)})
	want(1, 0)
	write(&ledgerfeedv1.Change{Version: 9, Document: []byte(`{"Balance":2.00,"Id":"2"}`)})
	want(1, 1)
}

// Package sinktest checks that a sink keeps the contract of processor.Sink. It
// is for the tests of the sinks.
package sinktest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// Sink is a sink that can be read, too.
type Sink interface {
	processor.Sink
	Snapshot(ctx context.Context) (map[sink.Ref]sink.Row, error)
	Records(ctx context.Context) iter.Seq2[sink.Record, error]
}

// Place is somewhere new to write to.
type Place struct {
	// Open opens a sink on the place, which closes itself at the end of the test.
	Open func() Sink
	// Shared says that several sinks may be open on the place at a time.
	Shared bool
}

// Run checks the contract, each part on a place of its own.
func Run(t *testing.T, newPlace func(t *testing.T) Place) {
	parts := map[string]func(*testing.T, Place){
		"keeps the newest version":              keepsTheNewest,
		"a repeated write changes nothing":      repeatedWrite,
		"a replay replaces the same version":    takesReplay,
		"another document of a version counts":  anotherDocument,
		"a tombstone replaces and stays":        tombstoneStays,
		"a newer state replaces a tombstone":    newerThanTombstone,
		"a restored record replaces tombstones": restoredReplacesTombstone,
		"keeps every field":                     keepsEveryField,
		"takes a full batch":                    takesFullBatch,
		"keeps awkward documents":               awkwardDocuments,
		"keeps awkward ids apart":               awkwardIDs,
		"keeps entity types and realms apart":   manyTypes,
		"a batch may hold what is known":        partlyKnown,
		"concurrent writers leave the newest":   concurrentWriters,
		"what was written is there after open":  survivesOpen,
		"an empty batch is nothing":             emptyBatch,
		"refuses what is no JSON for good":      refusesNoJSON,
		"a cancelled write may be tried again":  cancelledWrite,
		"a closed sink fails, closing it again": closedSink,
	}
	for name, part := range parts {
		t.Run(name, func(t *testing.T) { part(t, newPlace(t)) })
	}
}

// Change is an invoice of realm "1" at the given number of seconds.
func Change(id string, second int64, document string) *ledgerfeedv1.Change {
	at := time.Unix(1_700_000_000+second, 0).UTC()
	return &ledgerfeedv1.Change{
		RealmId: "1", Entity: "Invoice", EntityId: id,
		Version:   qbo.Version(at, "1", false),
		Operation: ledgerfeedv1.Operation_OPERATION_UPDATE,
		SyncToken: "1", LastUpdated: timestamppb.New(at),
		Document:  []byte(document),
		Source:    ledgerfeedv1.Source_SOURCE_WEBHOOK,
		LearnedAt: timestamppb.New(at.Add(1500 * time.Millisecond)),
		EventId:   "event-" + id,
	}
}

// Tombstone says that the invoice is gone.
func Tombstone(id string, second int64) *ledgerfeedv1.Change {
	c := Change(id, second, "")
	c.Version = qbo.TombstoneVersion(c.GetLastUpdated().AsTime())
	c.Operation = ledgerfeedv1.Operation_OPERATION_DELETE
	c.Deleted, c.SyncToken, c.Document = true, "", nil
	return c
}

func ref(c *ledgerfeedv1.Change) sink.Ref { return sink.RefOf(c) }

func write(t *testing.T, s Sink, changes ...*ledgerfeedv1.Change) {
	t.Helper()
	require.NoError(t, s.Write(t.Context(), changes))
}

func snapshot(t *testing.T, s Sink) map[sink.Ref]sink.Row {
	t.Helper()
	held, err := s.Snapshot(t.Context())
	require.NoError(t, err)
	return held
}

// newest is the record of c's entity that supersedes the others.
func newest(t *testing.T, s Sink, c *ledgerfeedv1.Change) sink.Record {
	t.Helper()
	var found sink.Record
	for r, err := range s.Records(t.Context()) {
		require.NoError(t, err)
		if r.Ref == ref(c) && (found.Version == 0 || r.Supersedes(found.Row()) || r.Version == found.Version) {
			found = r
		}
	}
	require.NotZero(t, found.Version, "nothing is held of %v", ref(c))
	return found
}

func keepsTheNewest(t *testing.T, place Place) {
	s := place.Open()
	first, second, third := Change("7", 1, `{"n":1}`), Change("7", 2, `{"n":2}`), Change("7", 3, `{"n":3}`)
	write(t, s, second)
	write(t, s, first)
	require.Equal(t, second.GetVersion(), snapshot(t, s)[ref(first)].Version)
	require.JSONEq(t, `{"n":2}`, string(newest(t, s, first).Document))
	write(t, s, third)
	require.Equal(t, third.GetVersion(), snapshot(t, s)[ref(first)].Version)
	require.JSONEq(t, `{"n":3}`, string(newest(t, s, first).Document))
}

func repeatedWrite(t *testing.T, place Place) {
	s := place.Open()
	c := Change("7", 1, `{"n":1}`)
	write(t, s, c)
	before, row := snapshot(t, s), newest(t, s, c)
	write(t, s, c)
	write(t, s, proto.CloneOf(c))
	require.Empty(t, cmp.Diff(before, snapshot(t, s)))
	require.Empty(t, cmp.Diff(row, newest(t, s, c)))
}

func takesReplay(t *testing.T, place Place) {
	s := place.Open()
	c := Change("7", 2, `{"n":1}`)
	write(t, s, c)
	for n := range 2 {
		again := Change("7", 2, fmt.Sprintf(`{"again":%d}`, n))
		again.Source, again.EventId = ledgerfeedv1.Source_SOURCE_REPLAY, fmt.Sprint("replay-", n)
		write(t, s, again)
		require.Equal(t, sink.Row{Version: c.GetVersion(), Learned: "replay"}, snapshot(t, s)[ref(c)])
		require.JSONEq(t, fmt.Sprintf(`{"again":%d}`, n), string(newest(t, s, c).Document))
	}
	older := Change("7", 1, `{"n":0}`)
	older.Source = ledgerfeedv1.Source_SOURCE_REPLAY
	write(t, s, older)
	require.Equal(t, c.GetVersion(), snapshot(t, s)[ref(c)].Version)
}

// read is c as the API showed it some seconds after c's change.
func read(c *ledgerfeedv1.Change, after int64) *ledgerfeedv1.Change {
	c = proto.CloneOf(c)
	c.ReadAt = timestamppb.New(c.GetLastUpdated().AsTime().Add(time.Duration(after) * time.Second))
	c.ContentHash = qbo.ContentHash(c.GetDocument())
	return c
}

// anotherDocument is a balance that moved within the second of the version before: of
// two documents of one version the one that was read later counts, in any order.
func anotherDocument(t *testing.T, place Place) {
	s := place.Open()
	early, late := read(Change("7", 1, `{"Balance":200}`), 1), read(Change("7", 1, `{"Balance":100}`), 2)
	require.NotEqual(t, sink.KeyOf(early), sink.KeyOf(late))
	write(t, s, early)
	write(t, s, late)
	require.Equal(t, late.GetContentHash(), snapshot(t, s)[ref(late)].ContentHash)
	write(t, s, early)
	held := snapshot(t, s)[ref(late)]
	require.Equal(t, []any{late.GetVersion(), late.GetContentHash()}, []any{held.Version, held.ContentHash})
	require.Equal(t, late.GetReadAt().AsTime(), held.ReadAt)
}

// newerThanTombstone is what QuickBooks shows again after a tombstone.
func newerThanTombstone(t *testing.T, place Place) {
	s := place.Open()
	gone, alive := Tombstone("7", 2), Change("7", 3, `{"n":3}`)
	write(t, s, gone)
	write(t, s, alive)
	require.Equal(t, sink.Row{Version: alive.GetVersion(), Learned: "webhook"}, snapshot(t, s)[ref(gone)])
}

// restoredReplacesTombstone: a tombstone was wrong, and the record has not changed since.
func restoredReplacesTombstone(t *testing.T, place Place) {
	s := place.Open()
	live := read(Change("7", 1, `{"n":1}`), 1)
	gone := Tombstone("7", 1_000_000)
	gone.ReadAt = timestamppb.New(live.GetReadAt().AsTime().Add(time.Minute))
	restored := read(live, 3600)
	restored.Source, restored.EventId = ledgerfeedv1.Source_SOURCE_RESTORED, "scan/Invoice/7"
	require.NotEqual(t, sink.KeyOf(live), sink.KeyOf(restored))
	want := sink.Row{Version: live.GetVersion(), Learned: "restored", ContentHash: live.GetContentHash(), ReadAt: restored.GetReadAt().AsTime()}

	write(t, s, live)
	write(t, s, gone)
	write(t, s, live) // as late as it may come, it is no restored record
	require.True(t, snapshot(t, s)[ref(gone)].Deleted)
	write(t, s, restored)
	write(t, s, proto.CloneOf(restored))
	require.Equal(t, want, snapshot(t, s)[ref(gone)])

	// QuickBooks deletes it after all; the restored record comes again, late.
	again := Tombstone("7", 2_000_000)
	again.ReadAt = timestamppb.New(restored.GetReadAt().AsTime().Add(time.Minute))
	write(t, s, again)
	write(t, s, proto.CloneOf(restored))
	require.True(t, snapshot(t, s)[ref(gone)].Deleted)

	newer := Change("8", 3, `{"n":3}`)
	old := read(Change("8", 2, `{"n":2}`), 3600)
	old.Source = ledgerfeedv1.Source_SOURCE_RESTORED
	write(t, s, newer)
	write(t, s, old)
	require.Equal(t, newer.GetVersion(), snapshot(t, s)[ref(newer)].Version)
}

func tombstoneStays(t *testing.T, place Place) {
	s := place.Open()
	live, gone, late := Change("7", 1, `{"n":1}`), Tombstone("7", 2), Change("7", 2, `{"n":2}`)
	gone.MergedInto = "9"
	write(t, s, live)
	write(t, s, gone)
	write(t, s, late)
	require.Equal(t, sink.Row{Version: gone.GetVersion(), Deleted: true, Learned: "webhook"}, snapshot(t, s)[ref(live)])
	held := newest(t, s, live)
	require.Empty(t, held.Document)
	require.Empty(t, held.SyncToken)
	require.Equal(t, "9", held.MergedInto)
	require.Equal(t, "delete", held.Operation)
}

func keepsEveryField(t *testing.T, place Place) {
	s := place.Open()
	c := Change("7", 1, `{"Id":"7"}`)
	c.Operation = ledgerfeedv1.Operation_OPERATION_EMAILED
	c.Source = ledgerfeedv1.Source_SOURCE_CDC
	write(t, s, c)
	want := sink.Record{
		Key: fmt.Sprintf("1/Invoice/7/%d", c.GetVersion()),
		Ref: sink.Ref{Realm: "1", Entity: "Invoice", ID: "7"}, Version: c.GetVersion(),
		SyncToken: "1", LastUpdated: c.GetLastUpdated().AsTime(), Operation: "emailed",
		Learned: "cdc", LearnedAt: c.GetLearnedAt().AsTime(), EventID: "event-7",
		Document: json.RawMessage(`{"Id":"7"}`),
	}
	sameJSON := cmp.Transformer("JSON", func(m json.RawMessage) (v any) {
		_ = json.Unmarshal(m, &v)
		return v
	})
	require.Empty(t, cmp.Diff(want, newest(t, s, c), sameJSON))
}

func takesFullBatch(t *testing.T, place Place) {
	s := place.Open()
	var batch []*ledgerfeedv1.Change
	want := map[sink.Ref]sink.Row{}
	for i := range 400 {
		c := Change(fmt.Sprint(i), int64(i), fmt.Sprintf(`{"Id":"%d","Line":%q}`, i, strings.Repeat("x", 2000)))
		batch = append(batch, c)
		want[ref(c)] = sink.Row{Version: c.GetVersion(), Learned: "webhook"}
	}
	write(t, s, batch...)
	require.Empty(t, cmp.Diff(want, snapshot(t, s)))
}

func awkwardDocuments(t *testing.T, place Place) {
	s := place.Open()
	for i, document := range []string{
		`{}`,
		`{"Name":"Café Åland \"GmbH\" \\ 漢字 🧾 مرحبا"}`,
		`{"Html":"<b>&amp;</b>","Separator":"` + "\u2028" + `","Escaped":"\u00e9\n\t\ud83e\uddfe"}`,
		"{\n  \"Pretty\": [1,\r\n 2.50, -3e2, 12345678901234567890.123456789]\n}",
		`{"Memo":"` + strings.Repeat("päge ", 400_000) + `"}`,
	} {
		c := Change(fmt.Sprint(i), 1, document)
		write(t, s, c)
		requireSameJSON(t, document, newest(t, s, c).Document)
	}
}

// requireSameJSON compares without the rounding of float64.
func requireSameJSON(t *testing.T, want string, got []byte) {
	t.Helper()
	decode := func(b []byte) (v any) {
		dec := json.NewDecoder(bytes.NewReader(b))
		dec.UseNumber()
		require.NoError(t, dec.Decode(&v))
		return v
	}
	sameNumber := cmp.Comparer(func(a, b json.Number) bool {
		x, errX := a.Float64()
		y, errY := b.Float64()
		return a == b || errX == nil && errY == nil && x == y && len(a) < 12
	})
	require.Empty(t, cmp.Diff(decode([]byte(want)), decode(got), sameNumber))
}

func awkwardIDs(t *testing.T, place Place) {
	s := place.Open()
	want := map[sink.Ref]sink.Row{}
	var batch []*ledgerfeedv1.Change
	for i, id := range []string{"1", "01", "1 ", "a/b", "a'b", `a"b\`, "é", "e\u0301", strings.Repeat("9", 200)} {
		for _, entity := range []string{"Invoice", "invoice", "Bill"} {
			c := Change(id, int64(i), `{}`)
			c.Entity = entity
			batch = append(batch, c)
			want[ref(c)] = sink.Row{Version: c.GetVersion(), Learned: "webhook"}
		}
	}
	write(t, s, batch...)
	require.Empty(t, cmp.Diff(want, snapshot(t, s)))
}

// manyTypes are some that the API has, some like words that a store may use
// itself, and some that nobody has.
func manyTypes(t *testing.T, place Place) {
	s := place.Open()
	long := strings.Repeat("VeryLong", 20)
	want := map[sink.Ref]sink.Row{}
	for second := range int64(2) {
		var batch []*ledgerfeedv1.Change
		for _, entity := range []string{
			"Invoice", "CreditMemo", "credit_memo", "creditmemo", "Class", "Order", "Table", "Entity", "Change", "EntityOther",
			"EntityMigrations", "2D", "naïve", "a'b\"c;--", "a b", long + "A", long + "B",
		} {
			for _, realm := range []string{"1", "2"} {
				c := Change("7", second, `{}`)
				c.RealmId, c.Entity = realm, entity
				batch = append(batch, c)
				want[ref(c)] = sink.Row{Version: c.GetVersion(), Learned: "webhook"}
			}
		}
		write(t, s, batch...)
		require.Empty(t, cmp.Diff(want, snapshot(t, s)))
	}
}

// partlyKnown is what comes after a crash between two sinks: some of a batch is
// there already, some of it newer, some not.
func partlyKnown(t *testing.T, place Place) {
	s := place.Open()
	newer, same, fresh := Change("1", 3, `{"n":3}`), Change("2", 1, `{"n":1}`), Change("3", 1, `{"n":1}`)
	write(t, s, newer, same)
	write(t, s, Change("1", 1, `{"n":1}`), proto.CloneOf(same), fresh)
	for _, c := range []*ledgerfeedv1.Change{newer, same, fresh} {
		require.Equal(t, c.GetVersion(), snapshot(t, s)[ref(c)].Version)
		require.JSONEq(t, string(c.GetDocument()), string(newest(t, s, c).Document))
	}
}

// concurrentWriters write all versions in orders of their own, as replicas do
// that were given the same events.
func concurrentWriters(t *testing.T, place Place) {
	const writers, versions, ids = 6, 12, 20
	var g errgroup.Group
	first := place.Open()
	for w := range writers {
		s := first
		if w%2 == 1 && place.Shared {
			s = place.Open()
		}
		rng := rand.New(rand.NewPCG(1, uint64(w)))
		g.Go(func() error {
			for _, v := range rng.Perm(versions) {
				var batch []*ledgerfeedv1.Change
				for _, id := range rng.Perm(ids) {
					batch = append(batch, Change(fmt.Sprint(id), int64(v), fmt.Sprintf(`{"v":%d}`, v)))
				}
				if err := s.Write(t.Context(), batch); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, g.Wait())
	held := snapshot(t, first)
	require.Len(t, held, ids)
	for id := range ids {
		last := Change(fmt.Sprint(id), versions-1, "")
		require.Equal(t, last.GetVersion(), held[ref(last)].Version)
		require.JSONEq(t, fmt.Sprintf(`{"v":%d}`, versions-1), string(newest(t, first, last).Document))
	}
}

func survivesOpen(t *testing.T, place Place) {
	s := place.Open()
	write(t, s, Change("7", 1, `{"n":1}`), Tombstone("8", 2))
	before := snapshot(t, s)
	require.NoError(t, s.Close())
	s = place.Open()
	require.Empty(t, cmp.Diff(before, snapshot(t, s)))
	write(t, s, Change("7", 3, `{"n":3}`))
	require.Equal(t, Change("7", 3, "").GetVersion(), snapshot(t, s)[ref(Change("7", 3, ""))].Version)
	require.Len(t, snapshot(t, s), 2)
}

func emptyBatch(t *testing.T, place Place) {
	s := place.Open()
	write(t, s)
	require.Empty(t, snapshot(t, s))
}

func refusesNoJSON(t *testing.T, place Place) {
	s := place.Open()
	bad, good := Change("7", 1, `{"Memo":"unfinished`), Change("8", 1, `{}`)
	err := s.Write(t.Context(), []*ledgerfeedv1.Change{good, bad})
	reason, permanent := stream.AsPermanent(err)
	require.True(t, permanent, "%v", err)
	require.Equal(t, stream.ReasonSinkRefused, reason)
	require.NotContains(t, err.Error(), "unfinished", "an error must not quote the document")

	write(t, s, good)
	require.Contains(t, snapshot(t, s), ref(good))
	require.NotContains(t, snapshot(t, s), ref(bad))
}

func cancelledWrite(t *testing.T, place Place) {
	s := place.Open()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := Change("7", 1, `{}`)
	err := s.Write(ctx, []*ledgerfeedv1.Change{c})
	require.ErrorIs(t, err, context.Canceled)
	_, permanent := stream.AsPermanent(err)
	require.False(t, permanent)
	write(t, s, c)
}

func closedSink(t *testing.T, place Place) {
	s := place.Open()
	require.NotEmpty(t, s.Name())
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	err := s.Write(t.Context(), []*ledgerfeedv1.Change{Change("7", 1, `{}`)})
	require.Error(t, err)
	_, permanent := stream.AsPermanent(err)
	require.False(t, permanent, "another process may take it")
}

package envelope_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

var received = time.Date(2026, 11, 20, 9, 30, 0, 123456789, time.UTC)

func meta() envelope.Meta {
	return envelope.Meta{
		App:         "main",
		IntuitTID:   "1-674a8b1c-2f0d4e5a6b7c8d9e0f1a2b3c",
		Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		ReceivedAt:  received,
	}
}

func notification(events ...webhook.Event) webhook.Notification {
	return webhook.Notification{Format: webhook.CloudEvents, Events: events}
}

func invoice(realm, id string) webhook.Event {
	return webhook.Event{
		ID: "event-" + id, RealmID: realm, Entity: "Invoice", EntityID: id,
		Operation: ledgerfeedv1.Operation_OPERATION_UPDATE, OperationName: "Update",
		OccurredAt: received.Add(-time.Minute),
	}
}

func TestFromNotification_KeepsEveryFieldOfAnEvent(t *testing.T) {
	e := webhook.Event{
		ID: "88cd52aa", RealmID: "310687", Entity: "Customer", EntityID: "1",
		Operation: ledgerfeedv1.Operation_OPERATION_MERGE, OperationName: "Merge",
		OccurredAt: received, MergedID: "7",
	}
	got := envelope.FromNotification([]byte("body"), notification(e), meta())

	want := &ledgerfeedv1.Envelope{
		Source: ledgerfeedv1.Source_SOURCE_WEBHOOK, App: "main", RealmId: "310687",
		ReceivedAt: timestamppb.New(received), IntuitTid: meta().IntuitTID, Traceparent: meta().Traceparent,
		Events: []*ledgerfeedv1.Event{{
			Id: "88cd52aa", Entity: "Customer", EntityId: "1", Operation: ledgerfeedv1.Operation_OPERATION_MERGE,
			OccurredAt: timestamppb.New(received), MergedId: "7", OperationName: "Merge",
		}},
	}
	require.Len(t, got, 1)
	require.Len(t, got[0].Id, 32)
	require.Empty(t, cmp.Diff(want, got[0], protocmp.Transform(), protocmp.IgnoreFields(want, "id")))
}

func TestFromNotification_OneEnvelopeARealmInOrder(t *testing.T) {
	n := notification(invoice("b", "1"), invoice("a", "2"), invoice("b", "3"), invoice("a", "4"))
	got := envelope.FromNotification([]byte("body"), n, meta())

	require.Equal(t, []string{"b", "a"}, []string{got[0].RealmId, got[1].RealmId})
	require.Equal(t, []string{"1", "3"}, ids(got[0]))
	require.Equal(t, []string{"2", "4"}, ids(got[1]))
}

func TestFromNotification_IDs(t *testing.T) {
	body := []byte("body")
	base := envelope.FromNotification(body, notification(invoice("1", "1")), meta())[0].Id

	later := meta()
	later.ReceivedAt = received.Add(time.Hour)
	later.IntuitTID = "another delivery of the same body"
	again := envelope.FromNotification(body, notification(invoice("1", "1")), later)[0].Id
	require.Equal(t, base, again, "the same body received twice")

	// Written down: another id for the same body after an upgrade would store it twice.
	require.Equal(t, "di43kgjciw4next2q7tswypk2k75qxda", base)

	seen := map[string]string{base: "base"}
	for name, id := range map[string]string{
		"another body":  envelope.FromNotification([]byte("body2"), notification(invoice("1", "1")), meta())[0].Id,
		"another realm": envelope.FromNotification(body, notification(invoice("2", "1")), meta())[0].Id,
		"another chunk": envelope.FromNotification(body, notification(many("1", envelope.MaxEvents+1)...), meta())[1].Id,
		"a scan":        envelope.New(ledgerfeedv1.Source_SOURCE_CDC, "1", "body", events("1"), meta())[0].Id,
	} {
		require.NotContains(t, seen, id, name)
		seen[id] = name
	}
}

// A body of the legacy format says only in which second its changes were made: of two
// changes of one record within a second the bodies are the same bytes.
func TestFromNotification_EqualBytesOfEventsWithoutIDsAreAnotherChange(t *testing.T) {
	for name, body := range map[string]string{
		"legacy": `{"eventNotifications":[{"realmId":"1","dataChangeEvent":{"entities":[{"name":"Bill","id":"7","operation":"Update","lastUpdated":"2026-11-20T09:29:00.000Z"}]}}]}`,
		"cloud events without an id": `[{"specversion":"1.0","type":"qbo.bill.updated.v1","time":"2026-11-20T09:29:00Z","intuitentityid":"7","intuitaccountid":"1"},
			{"specversion":"1.0","id":"4c1e","type":"qbo.bill.updated.v1","time":"2026-11-20T09:29:00Z","intuitentityid":"8","intuitaccountid":"1"}]`,
	} {
		t.Run(name, func(t *testing.T) {
			n, err := webhook.Parse([]byte(body))
			require.NoError(t, err)
			require.True(t, n.Events[0].Derived())
			id := func(m envelope.Meta) string { return envelope.FromNotification([]byte(body), n, m)[0].Id }
			later := meta()
			later.ReceivedAt = received.Add(time.Millisecond)
			require.NotEqual(t, id(meta()), id(later))
			require.Equal(t, id(meta()), id(meta()), "what is published again by us is the same")
			require.Len(t, id(meta()), 32)
			require.Equal(t, id(envelope.Meta{}), id(envelope.Meta{App: "other"}))
		})
	}
	require.False(t, invoice("1", "1").Derived())
	fake := invoice("1", "1")
	fake.ID = "0123456789abcdef0123456789abcdef" // Intuit's own of that length
	require.False(t, fake.Derived())
}

func TestNew_IDs(t *testing.T) {
	id := func(source ledgerfeedv1.Source, realm, seed string, ids ...string) string {
		return envelope.New(source, realm, seed, events(ids...), meta())[0].Id
	}
	cdc, query := ledgerfeedv1.Source_SOURCE_CDC, ledgerfeedv1.Source_SOURCE_QUERY
	base := id(cdc, "1", "scan", "7")
	require.Equal(t, base, id(cdc, "1", "scan", "7"))
	for name, other := range map[string]string{
		"source":            id(query, "1", "scan", "7"),
		"realm":             id(cdc, "2", "scan", "7"),
		"seed":              id(cdc, "1", "scan2", "7"),
		"events":            id(cdc, "1", "scan", "8"),
		"more events":       id(cdc, "1", "scan", "7", "8"),
		"realm and seed":    id(cdc, "1s", "can", "7"),
		"seed of no length": id(cdc, "1scan", "", "7"),
	} {
		require.NotEqual(t, base, other, name)
	}
}

func TestNew_NoEventsMakeNoEnvelope(t *testing.T) {
	require.Empty(t, envelope.New(ledgerfeedv1.Source_SOURCE_CDC, "1", "s", nil, meta()))
	require.Empty(t, envelope.FromNotification(nil, notification(), meta()))
}

// Whatever the events, chunks keep all of them in order, within the limits, and
// each can be encoded under an id of its own.
func TestNew_ChunksLoseNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.SampledFrom([]int{1, 40, 300, 5_000, 300 << 10}), 1, 1200).Draw(t, "sizes")
		var all []*ledgerfeedv1.Event
		var want []string
		for i, n := range sizes {
			id := fmt.Sprint(i, "-", strings.Repeat("x", n))
			all = append(all, &ledgerfeedv1.Event{Entity: "Invoice", EntityId: id})
			want = append(want, id)
		}
		var got []string
		seen := map[string]bool{}
		for _, e := range envelope.New(ledgerfeedv1.Source_SOURCE_QUERY, "1", "s", all, meta()) {
			b, err := envelope.Encode(e)
			require.NoError(t, err)
			require.LessOrEqual(t, len(e.Events), envelope.MaxEvents)
			require.True(t, len(b) <= envelope.MaxBytes || len(e.Events) == 1, "%d bytes, %d events", len(b), len(e.Events))
			require.False(t, seen[e.Id])
			seen[e.Id] = true
			got = append(got, ids(e)...)
		}
		require.Equal(t, want, got)
	})
}

func TestFromNotification_OddMetaDoesNotStopTheEvents(t *testing.T) {
	m := meta()
	m.IntuitTID, m.Traceparent = "\xff\xfe", strings.Repeat("é", 1000)
	e := invoice("1", "1")
	e.OccurredAt = time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC)
	got := envelope.FromNotification([]byte("body"), notification(e), m)[0]
	b, err := envelope.Encode(got)
	require.NoError(t, err)
	require.Less(t, len(b), 500)
	require.Nil(t, got.Events[0].OccurredAt)
}

func many(realm string, n int) []webhook.Event {
	var out []webhook.Event
	for i := range n {
		out = append(out, invoice(realm, fmt.Sprint(i)))
	}
	return out
}

func events(ids ...string) []*ledgerfeedv1.Event {
	var out []*ledgerfeedv1.Event
	for _, id := range ids {
		out = append(out, &ledgerfeedv1.Event{Entity: "Invoice", EntityId: id, Version: 1})
	}
	return out
}

func ids(e *ledgerfeedv1.Envelope) []string {
	var out []string
	for _, e := range e.Events {
		out = append(out, e.EntityId)
	}
	return out
}

func BenchmarkFromNotification(b *testing.B) {
	for _, n := range []int{1, 10, 500} {
		b.Run(fmt.Sprint("events=", n), func(b *testing.B) {
			notification, body := notification(many("1", n)...), []byte(strings.Repeat("x", 400*n))
			b.ReportAllocs()
			for b.Loop() {
				for _, e := range envelope.FromNotification(body, notification, meta()) {
					if _, err := envelope.Encode(e); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

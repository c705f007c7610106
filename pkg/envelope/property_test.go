package envelope_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/internal/jsongen"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// Every event of a well-formed body is in exactly one envelope, as it was and
// in its place, however the body is written; the second delivery of it makes the
// same envelopes.
func TestFromNotification_EveryEventIsInExactlyOneEnvelope(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		count := rapid.IntRange(0, 1200).Draw(t, "events")
		realms := rapid.IntRange(1, 5).Draw(t, "realms")
		b := newBody(rapid.Uint64().Draw(t, "seed"), realms)
		body := b.write(count)

		got := roundTrip(t, body)
		events := map[string][]*ledgerfeedv1.Event{}
		seen := map[string]bool{}
		for _, e := range got {
			require.False(t, seen[e.Id], "two envelopes have the id %s", e.Id)
			seen[e.Id] = true
			require.LessOrEqual(t, len(e.Events), envelope.MaxEvents)
			events[e.RealmId] = append(events[e.RealmId], e.Events...)
		}
		require.Len(t, events, len(b.want))
		for realm, want := range b.want {
			require.Len(t, events[realm], len(want))
			for i, e := range events[realm] {
				if want[i].Id == "" { // Intuit sent none
					require.Len(t, e.Id, 32)
					e.Id = ""
				}
				if !proto.Equal(want[i], e) {
					t.Fatal(cmp.Diff(want[i], e, protocmp.Transform()))
				}
			}
		}
		again := roundTrip(t, body)
		require.Len(t, again, len(got))
		for i := range again {
			require.Equal(t, got[i].Id, again[i].Id)
		}
	})
}

// roundTrip is a body as a consumer sees it.
func roundTrip(t *rapid.T, body []byte) []*ledgerfeedv1.Envelope {
	n, err := webhook.Parse(body)
	require.NoError(t, err)
	require.Empty(t, n.Rejected)
	var out []*ledgerfeedv1.Envelope
	for _, e := range envelope.FromNotification(body, n, meta()) {
		b, err := envelope.Encode(e)
		require.NoError(t, err)
		require.LessOrEqual(t, len(b), envelope.MaxBytes)
		decoded, err := envelope.Decode(b)
		require.NoError(t, err)
		out = append(out, decoded)
	}
	return out
}

// body writes events as Intuit does, did or might, and remembers them.
type body struct {
	jsongen.Writer
	realms []string
	names  []string // of entities
	want   map[string][]*ledgerfeedv1.Event
}

func newBody(seed uint64, realms int) *body {
	b := &body{Writer: jsongen.Writer{R: rand.New(rand.NewPCG(seed, 1))}, want: map[string][]*ledgerfeedv1.Event{}}
	for i := range realms {
		b.realms = append(b.realms, fmt.Sprint(i)+pick(b, "", "934145300000000", "-réalm", strings.Repeat("9", 100)))
	}
	for _, info := range entity.All() {
		b.names = append(b.names, info.Name)
	}
	return b
}

// write is a body of n events: CloudEvents, legacy, or an array of both.
func (b *body) write(n int) []byte {
	const (
		cloudEvents = iota
		legacy
		both
	)
	format := b.R.IntN(3)
	var items []string
	for n > 0 {
		realm, run := pick(b, b.realms...), 1+b.R.IntN(min(n, 400))
		switch {
		case format == legacy:
			items = append(items, b.notification(realm, run))
		case format == both && b.R.IntN(100) == 0:
			items = append(items, b.notifications(b.notification(realm, run)))
		default:
			run = 1
			items = append(items, b.cloudEvent(realm))
		}
		n -= run
	}
	text := b.Array(items...)
	if format == legacy {
		text = b.notifications(items...)
	}
	return []byte(pick(b, "", "\xef\xbb\xbf", " \n") + text + b.Space())
}

func (b *body) notifications(items ...string) string {
	return b.Object(jsongen.Member{Key: "eventNotifications", JSON: b.Array(items...)})
}

func (b *body) notification(realm string, n int) string {
	entities := make([]string, n)
	for i := range entities {
		e := b.event(realm)
		members := []jsongen.Member{
			{Key: pick(b, "name", "Name"), JSON: b.String(b.anyCase(e.Entity))},
			{Key: "id", JSON: b.String(e.EntityId)},
			{Key: "operation", JSON: b.String(b.spelled(e))},
		}
		entities[i] = b.Object(b.Twice(b.rest(members, e, "lastUpdated"))...)
		e.Id = ""
	}
	return b.Object(
		jsongen.Member{Key: "realmId", JSON: b.String(realm)},
		jsongen.Member{Key: "dataChangeEvent", JSON: b.Object(jsongen.Member{Key: "entities", JSON: b.Array(entities...)})},
	)
}

func (b *body) cloudEvent(realm string) string {
	e := b.event(realm)
	members := []jsongen.Member{
		{Key: "type", JSON: b.String("qbo." + b.anyCase(e.Entity) + "." + b.spelled(e) + pick(b, ".v1", ".v2", ""))},
		{Key: "intuitaccountid", JSON: b.String(realm)},
		{Key: pick(b, "intuitentityid", "intuitEntityId"), JSON: b.String(e.EntityId)},
		{Key: "id", JSON: b.String(e.Id)},
		{Key: "specversion", JSON: `"1.0"`},
		{Key: "source", JSON: b.Any(1)},
	}
	return b.Object(b.Twice(b.rest(members, e, "time"))...)
}

// rest adds what an event can do without.
func (b *body) rest(members []jsongen.Member, e *ledgerfeedv1.Event, at string) []jsongen.Member {
	if e.OccurredAt != nil {
		members = append(members, jsongen.Member{Key: at, JSON: b.time(e.OccurredAt.AsTime())})
	}
	data := []jsongen.Member{{Key: "x", JSON: b.Any(4)}, {Key: "alternative_ids", JSON: b.Any(2)}}
	if e.MergedId != "" {
		merged := jsongen.Member{Key: pick(b, "deletedid", "deletedId", "deletedID"), JSON: b.String(e.MergedId)}
		if b.R.IntN(2) == 0 {
			members = append(members, merged)
		} else {
			data = append(data, merged)
		}
	}
	if e.MergedId != "" || b.R.IntN(2) == 0 {
		members = append(members, jsongen.Member{Key: "data", JSON: b.Object(data...)})
	}
	return members
}

// event makes up an event and remembers it.
func (b *body) event(realm string) *ledgerfeedv1.Event {
	n := len(b.want[realm])
	e := &ledgerfeedv1.Event{
		Id:       pick(b, "", fmt.Sprintf("88cd52aa-33b6-4351-9aa4-%012d", n), "é"+fmt.Sprint(n), strings.Repeat("x", 120)+fmt.Sprint(n)),
		Entity:   pick(b, b.names...),
		EntityId: fmt.Sprint(n) + pick(b, "", "", "-ü", strings.Repeat("7", 110)),
	}
	if b.R.IntN(6) == 0 {
		e.Entity = pick(b, "hologram", "Holö", strings.Repeat("y", 128))
	}
	switch e.Operation = ledgerfeedv1.Operation(b.R.IntN(7)); e.Operation {
	case ledgerfeedv1.Operation_OPERATION_UNSPECIFIED:
		e.OperationName = pick(b, "teleported", "Archive", "größer")
	case ledgerfeedv1.Operation_OPERATION_MERGE:
		e.MergedId = pick(b, "", "m"+fmt.Sprint(n))
	}
	if b.R.IntN(8) > 0 {
		at := time.Date(2026, 11, 20, 9, 30, b.R.IntN(7200), 0, time.UTC)
		e.OccurredAt = timestamppb.New(at.Add(pick(b, 0, 657*time.Millisecond, 179851517)))
	}
	b.want[realm] = append(b.want[realm], e)
	return e
}

// anyCase spells a known entity in any case; an unknown one is kept as it is.
func (b *body) anyCase(name string) string {
	if _, ok := entity.Lookup(name); !ok {
		return name
	}
	return pick(b, name, strings.ToLower(name), strings.ToUpper(name))
}

func (b *body) spelled(e *ledgerfeedv1.Event) string {
	switch e.Operation {
	case ledgerfeedv1.Operation_OPERATION_CREATE:
		return pick(b, "created", "Create")
	case ledgerfeedv1.Operation_OPERATION_UPDATE:
		return pick(b, "updated", "Update")
	case ledgerfeedv1.Operation_OPERATION_DELETE:
		return pick(b, "deleted", "Delete")
	case ledgerfeedv1.Operation_OPERATION_MERGE:
		return pick(b, "merged", "Merge")
	case ledgerfeedv1.Operation_OPERATION_VOID:
		return pick(b, "void", "voided", "Void")
	case ledgerfeedv1.Operation_OPERATION_EMAILED:
		return pick(b, "emailed", "Emailed")
	}
	return e.OperationName
}

// time writes a time in one of Intuit's forms that can hold it.
func (b *body) time(at time.Time) string {
	forms := []string{
		b.String(at.Format(time.RFC3339Nano)),
		b.String(at.In(time.FixedZone("", -7*60*60)).Format("2006-01-02T15:04:05.999999999Z0700")),
		b.String(at.In(time.FixedZone("", 5*60*60+1800)).Format("2006-01-02T15:04:05.000000000Z07:00")),
	}
	if at.Nanosecond()%int(time.Millisecond) == 0 {
		forms = append(forms, fmt.Sprint(at.UnixMilli()), fmt.Sprintf("%q", fmt.Sprint(at.UnixMilli())))
	}
	return pick(b, forms...)
}

func pick[T any](b *body, from ...T) T { return from[b.R.IntN(len(from))] }

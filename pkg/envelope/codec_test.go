package envelope_test

import (
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// full has a value in every field there is.
func full() *ledgerfeedv1.Envelope {
	return &ledgerfeedv1.Envelope{
		Id: "di43kgjciw4next2q7tswypk2k75qxda", Source: ledgerfeedv1.Source_SOURCE_WEBHOOK, App: "main", RealmId: "310687",
		ReceivedAt: timestamppb.New(received), IntuitTid: meta().IntuitTID, Traceparent: meta().Traceparent, Sink: "postgres",
		Events: []*ledgerfeedv1.Event{{
			Id: "88cd52aa-33b6-4351-9aa4-47572edbd068", Entity: "Customer", EntityId: "1",
			Operation: ledgerfeedv1.Operation_OPERATION_MERGE, OccurredAt: timestamppb.New(received),
			MergedId: "7", OperationName: "Merge", Version: 1_763_631_000_000_003,
			Evidence: ledgerfeedv1.Evidence_EVIDENCE_CDC, ContentHash: "gLDr_8z2yEQ",
		}},
	}
}

// The bytes are what waits in the streams of a running installation: a field
// lost or renumbered here is data lost there.
func TestEncode_Golden(t *testing.T) {
	requireAllSet(t, full().ProtoReflect())
	requireAllSet(t, full().Events[0].ProtoReflect())

	b, err := envelope.Encode(full())
	require.NoError(t, err)
	file := filepath.Join("testdata", "envelope.golden")
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(hex.Dump(b)), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(string(want), hex.Dump(b)))
}

// What only a newer version understands is not at fault.
func TestDecode_ANewerFormatIsNoInvalidOne(t *testing.T) {
	newer := full()
	newer.Format = envelope.Format + 1
	data, err := proto.Marshal(newer)
	require.NoError(t, err)
	_, err = envelope.Decode(data)
	require.ErrorIs(t, err, envelope.ErrNewer)
	var invalid *envelope.InvalidError
	require.NotErrorAs(t, err, &invalid)
}

func requireAllSet(t *testing.T, m protoreflect.Message) {
	t.Helper()
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		if fields.Get(i).Name() == "format" {
			continue // 0, as long as there is one format only
		}
		require.True(t, m.Has(fields.Get(i)), "%s is new: give it a value in full() and run with -update", fields.Get(i).FullName())
	}
}

func TestDecode_ReturnsWhatWasEncoded(t *testing.T) {
	b, err := envelope.Encode(full())
	require.NoError(t, err)
	got, err := envelope.Decode(b)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(full(), got, protocmp.Transform()))
}

func TestDecode_KeepsFieldsOfANewerVersion(t *testing.T) {
	b, err := envelope.Encode(full())
	require.NoError(t, err)
	newer := append(b, 0xfa, 0x3f, 3, 'n', 'e', 'w') // field 1023, a string
	got, err := envelope.Decode(newer)
	require.NoError(t, err)
	again, err := envelope.Encode(got)
	require.NoError(t, err)
	require.Equal(t, newer, again)
}

func TestDecode_NamesTheField(t *testing.T) {
	tests := []struct {
		name   string
		change func(*ledgerfeedv1.Envelope)
		want   string
	}{
		{"no id", func(e *ledgerfeedv1.Envelope) { e.Id = "" }, "id"},
		{"no realm", func(e *ledgerfeedv1.Envelope) { e.RealmId = "" }, "realm_id"},
		{"no events", func(e *ledgerfeedv1.Envelope) { e.Events = nil }, "events"},
		{"time out of range", func(e *ledgerfeedv1.Envelope) { e.ReceivedAt.Nanos = -1 }, "received_at"},
		{"no entity", func(e *ledgerfeedv1.Envelope) { e.Events[0].Entity = "" }, "events[0].entity"},
		{"no entity id", func(e *ledgerfeedv1.Envelope) { e.Events[0].EntityId = "" }, "events[0].entity_id"},
		{"event time out of range", func(e *ledgerfeedv1.Envelope) { e.Events[0].OccurredAt.Seconds = 1 << 60 }, "events[0].occurred_at"},
		{"second event", func(e *ledgerfeedv1.Envelope) { e.Events = append(e.Events, &ledgerfeedv1.Event{}) }, "events[1].entity"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := full()
			tt.change(e)
			b, err := proto.Marshal(e)
			require.NoError(t, err)

			_, err = envelope.Decode(b)
			var invalid *envelope.InvalidError
			require.ErrorAs(t, err, &invalid)
			require.Equal(t, tt.want, invalid.Field)
			require.ErrorContains(t, err, tt.want)

			_, err = envelope.Encode(e)
			require.ErrorAs(t, err, &invalid)
			require.Equal(t, tt.want, invalid.Field)
		})
	}
}

func TestDecode_RefusesOtherBytes(t *testing.T) {
	for _, b := range []string{"", "{}", "\xff\xff\xff", `{"realmId":"1"}`} {
		_, err := envelope.Decode([]byte(b))
		var invalid *envelope.InvalidError
		require.ErrorAs(t, err, &invalid, "%q", b)
	}
}

func TestEncode_RefusesTextThatIsNotUTF8(t *testing.T) {
	e := full()
	e.Events[0].EntityId = "\xff"
	_, err := envelope.Encode(e)
	var invalid *envelope.InvalidError
	require.ErrorAs(t, err, &invalid)
}

func FuzzDecode(f *testing.F) {
	b, err := envelope.Encode(full())
	require.NoError(f, err)
	f.Add(b)
	f.Add(b[:len(b)/2])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := envelope.Decode(b)
		if err != nil {
			var invalid *envelope.InvalidError
			if !errors.As(err, &invalid) && !errors.Is(err, envelope.ErrNewer) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("error %q", err)
			}
			return
		}
		again, err := envelope.Encode(e)
		if err != nil {
			t.Fatalf("decoded, but encode: %v", err)
		}
		back, err := envelope.Decode(again)
		if err != nil || !proto.Equal(e, back) {
			t.Fatalf("round trip: %v", err)
		}
	})
}

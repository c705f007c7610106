package load

import (
	"bytes"
	"encoding/json"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

const token secret.String = "b5771f19b12ddb4bcdb9f08bdc50bc63878a"

func bodyOptions(format webhook.Format, events, realms int) Options {
	o := DefaultOptions()
	o.Token, o.Format, o.Events, o.Realms, o.Seed, o.RunID = token, format, events, realms, 7, 1_773_752_400_123_456_789
	return o
}

func TestTemplate_EveryBodyIsReadableAndNew(t *testing.T) {
	for _, size := range [][2]int{{1, 1}, {10, 2}, {7, 7}, {1000, 3}} {
		for _, format := range []webhook.Format{webhook.CloudEvents, webhook.Legacy} {
			o := bodyOptions(format, size[0], size[1])
			body := newTemplate(o)
			seen := map[string]bool{}
			for _, n := range []uint64{0, 1, 2, 255, 256, 1_000_000, 1 << 32} {
				b, signature := body.next(n)
				require.Equal(t, webhook.Sign(b, token), string(signature))
				require.True(t, json.Valid(b))
				got, err := webhook.Parse(b)
				require.NoError(t, err)
				require.Equal(t, format, got.Format)
				require.Empty(t, got.Rejected)
				require.Len(t, got.Events, o.Events)
				realms := map[string]int{}
				for _, e := range got.Events {
					realms[e.RealmID]++
					require.Equal(t, "Invoice", e.Entity)
					require.Len(t, e.EntityID, 9)
					require.WithinDuration(t, time.Unix(0, o.RunID).Add(time.Duration(n)*time.Microsecond), e.OccurredAt, time.Millisecond)
					for _, id := range []string{e.ID, e.RealmID + e.EntityID} {
						require.False(t, seen[id], "%s in request %d", id, n)
						seen[id] = true
					}
				}
				require.Len(t, realms, o.Realms)
				for id, events := range realms {
					require.InDelta(t, o.Events/o.Realms, events, 1, "realm %s", id)
				}
			}
		}
	}
}

// Fields and sizes are those of Intuit's own sample.
func TestTemplate_LooksLikeIntuits(t *testing.T) {
	sample, err := os.ReadFile("../../../pkg/qbo/webhook/testdata/ce_intuit_doc_account_created.json")
	require.NoError(t, err)
	var compact bytes.Buffer
	require.NoError(t, json.Compact(&compact, sample))
	b, _ := newTemplate(bodyOptions(webhook.CloudEvents, 1, 1)).next(3)
	require.Empty(t, cmp.Diff(shape(t, compact.Bytes()), shape(t, b)))

	require.InDelta(t, compact.Len(), len(b), 20, "%s\n%s", b, compact.Bytes())
}

// shape is the sequence of the names of a JSON text, with the length of the
// values whose length is always the same.
func shape(t *testing.T, text []byte) (names []string) {
	t.Helper()
	var events []map[string]any
	require.NoError(t, json.Unmarshal(text, &events))
	d := json.NewDecoder(bytes.NewReader(text))
	for {
		token, err := d.Token()
		if err != nil {
			break
		}
		name, ok := token.(string)
		if value, isString := events[0][name].(string); ok && isString {
			if name == "id" || name == "time" || name == "source" {
				name += " " + strconv.Itoa(len(value))
			}
			names = append(names, name)
		}
	}
	return names
}

func TestTemplate_SeedAndRunDetermineTheBodies(t *testing.T) {
	o := bodyOptions(webhook.CloudEvents, 10, 2)
	bodyOf := func(o Options) string {
		b, _ := newTemplate(o).next(41)
		return string(b)
	}
	want := bodyOf(o)
	require.Equal(t, want, bodyOf(o))
	for name, change := range map[string]func(*Options){"seed": func(o *Options) { o.Seed++ }, "run": func(o *Options) { o.RunID++ }} {
		other := o
		change(&other)
		require.NotEqual(t, want, bodyOf(other), name)
	}
	first := newTemplate(o)
	second := first.clone(token)
	b, signature := first.next(41)
	_, _ = second.next(99)
	require.Equal(t, want, string(b), "a clone shares nothing")
	require.Equal(t, webhook.Sign(b, token), string(signature))
}

func TestTemplate_MakesNoGarbage(t *testing.T) {
	body, n := newTemplate(bodyOptions(webhook.CloudEvents, 10, 2)), uint64(0)
	require.Zero(t, testing.AllocsPerRun(100, func() { n++; body.next(n) }))
}

func BenchmarkTemplate(b *testing.B) {
	body, n := newTemplate(bodyOptions(webhook.CloudEvents, 10, 2)), uint64(0)
	b.ReportAllocs()
	b.SetBytes(int64(len(body.body)))
	for b.Loop() {
		n++
		body.next(n)
	}
}

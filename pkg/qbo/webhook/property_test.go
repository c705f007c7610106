package webhook_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ledgerfeed/ledgerfeed/pkg/internal/jsongen"
)

// source makes the choices that rapid need not shrink one by one.
func source(t *rapid.T) *rand.Rand {
	return rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
}

// Whatever bytes are signed: an error of the one type, or a notification that
// holds to what Event promises.
func TestParse_TakesAnyBytes(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	require.NoError(t, err)
	var samples [][]byte
	for _, file := range files {
		body, err := os.ReadFile(file)
		require.NoError(t, err)
		samples = append(samples, body)
	}
	rapid.Check(t, func(rt *rapid.T) {
		r := source(rt)
		var body []byte
		switch rapid.IntRange(0, 2).Draw(rt, "kind") {
		case 0:
			body = rapid.SliceOf(rapid.Byte()).Draw(rt, "bytes")
		case 1:
			body = []byte(jsongen.Writer{R: r}.Any(6))
		case 2: // a real one, damaged
			body = bytes.Clone(samples[r.IntN(len(samples))])
			for range rapid.IntRange(0, 8).Draw(rt, "damages") {
				i := r.IntN(len(body))
				switch r.IntN(3) {
				case 0:
					body[i] = byte(r.Uint32())
				case 1:
					body[i] = `{}[]",:\0`[r.IntN(9)]
				case 2:
					body = append(body[:i], body[i+r.IntN(len(body)-i):]...)
				}
				body = append(body, ' ')
			}
		}
		checkParse(rt, body)
	})
}

// Every item of an array is an event or rejected, once, in the order of the
// body: nothing is dropped and nothing is made up.
func TestParse_AccountsForEveryItemOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := jsongen.Writer{R: source(rt)}
		items := make([]string, rapid.IntRange(0, 200).Draw(rt, "items"))
		for i := range items {
			items[i] = anyItem(w, i)
		}
		n := parse(rt, w.Space()+w.Array(items...)+w.Space())
		events, rejected := n.Events, n.Rejected
		for i, item := range items {
			if len(events) > 0 && events[0].ID == fmt.Sprint("item-", i) {
				events = events[1:]
				continue
			}
			require.NotEmpty(rt, rejected, "item %d is neither an event nor rejected: %s", i, item)
			require.Equal(rt, item, string(rejected[0].Raw))
			rejected = rejected[1:]
		}
		require.Empty(rt, events)
		require.Empty(rt, rejected)
	})
}

// anyItem is an event with the id item-i, an event with something wrong, or
// no event at all.
func anyItem(w jsongen.Writer, i int) string {
	if w.R.IntN(5) == 0 {
		return w.Any(4)
	}
	members := []jsongen.Member{
		{Key: "id", JSON: w.String(fmt.Sprint("item-", i))},
		{Key: "type", JSON: w.String("qbo.invoice.updated.v1")},
		{Key: "intuitaccountid", JSON: w.String("9")},
		{Key: "intuitentityid", JSON: fmt.Sprint(i)},
		{Key: "data", JSON: w.Any(5)},
	}
	if w.R.IntN(3) == 0 {
		members[1+w.R.IntN(3)].JSON = w.Any(2)
	}
	if w.R.IntN(5) == 0 {
		members = append(members, jsongen.Member{Key: "intuitEntityId", JSON: w.Any(1)})
	}
	return w.Object(w.Twice(members)...)
}

func TestParse_AccountsForEveryLegacyEntityOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := jsongen.Writer{R: source(rt)}
		var notifications, want []string
		for n := range rapid.IntRange(0, 20).Draw(rt, "notifications") {
			entities := make([]string, w.R.IntN(10))
			for i := range entities {
				id := fmt.Sprint(n, "-", i)
				entities[i] = w.Object(w.Twice([]jsongen.Member{{Key: "name", JSON: w.String("Invoice")}, {Key: "id", JSON: w.String(id)}})...)
				want = append(want, id)
				if w.R.IntN(4) == 0 {
					entities[i] = w.Object(jsongen.Member{Key: "name", JSON: w.Any(2)})
					want[len(want)-1] = entities[i]
				}
			}
			notifications = append(notifications, w.Object(
				jsongen.Member{Key: "realmId", JSON: w.String("9")},
				jsongen.Member{Key: "dataChangeEvent", JSON: w.Object(jsongen.Member{Key: "entities", JSON: w.Array(entities...)})},
			))
		}
		n := parse(rt, w.Object(jsongen.Member{Key: "eventNotifications", JSON: w.Array(notifications...)}))
		events, rejected := n.Events, n.Rejected
		for _, item := range want {
			if len(events) > 0 && events[0].EntityID == item {
				events = events[1:]
				continue
			}
			require.NotEmpty(rt, rejected, item)
			require.Equal(rt, item, string(rejected[0].Raw))
			rejected = rejected[1:]
		}
		require.Empty(rt, events)
		require.Empty(rt, rejected)
	})
}

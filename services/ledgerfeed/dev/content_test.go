package dev

import (
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

func TestContent_IsOfTheRecordAlone(t *testing.T) {
	of := func(document string) content { return contentOf([]byte(document)) }
	record := of(`{"Id":"1","Balance":100.00,"Line":[{"Id":"1","status":"x"}],"MetaData":{"LastUpdatedTime":"a"},"domain":"QBO","sparse":false}`)
	for name, same := range map[string]string{
		"order and space": `{ "sparse": false, "Line": [ {"status":"x", "Id":"1"} ], "domain":"QBO", "Balance":100.00, "Id":"1", "MetaData": {"LastUpdatedTime":"a"} }`,
		"left out":        `{"Id":"1","Balance":100.00,"Line":[{"Id":"1","status":"x"}],"status":"y"}`,
	} {
		require.Equal(t, record, of(same), name)
	}
	for name, other := range map[string]string{
		"a number":           `{"Id":"1","Balance":100.01,"Line":[{"Id":"1","status":"x"}]}`,
		"below the top":      `{"Id":"1","Balance":100.00,"Line":[{"Id":"1","status":"y"}]}`,
		"order of a list":    `{"Id":"1","Balance":100.00,"Line":[{"status":"x"},{"Id":"1"}]}`,
		"a field less":       `{"Id":"1","Line":[{"Id":"1","status":"x"}]}`,
		"no JSON":            `Id 1`,
		"no document at all": ``,
	} {
		require.NotEqual(t, record, of(other), name)
	}
	require.Zero(t, contentOf(nil))
	large := of(`{"Id":"1234567890123456789"}`)
	require.NotEqual(t, large, of(`{"Id":"1234567890123456788"}`))
	require.NotEqual(t, of(`{"N":1234567890123456789}`), of(`{"N":1234567890123456788}`), "numbers are not rounded")
}

// books are three records that a sink may hold: an invoice, a customer whose
// balance moved within its second, and a bill that is gone.
func books(t *testing.T) (truth map[sink.Ref]qbosim.State, customer []qbosim.State) {
	t.Helper()
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	sim, err := qbosim.New(qbosim.Options{Seed: 1, Now: func() time.Time { return at }})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, sim.Close()) })
	sim.AddRealm("1")
	ref, err := sim.Create("1", "Customer", nil)
	require.NoError(t, err)
	require.NoError(t, sim.Derive(ref, false))
	require.NoError(t, sim.Derive(ref, true))
	_, err = sim.Create("1", "Invoice", nil)
	require.NoError(t, err)
	bill, err := sim.Create("1", "Bill", nil)
	require.NoError(t, err)
	require.NoError(t, sim.Delete(bill))
	return truthOf(sim), sim.History(ref)
}

func changeOf(ref sink.Ref, s qbosim.State) *ledgerfeedv1.Change {
	c := &ledgerfeedv1.Change{
		RealmId: ref.Realm, Entity: ref.Entity, EntityId: ref.ID, Version: s.Version, SyncToken: s.SyncToken,
		LastUpdated: timestamppb.New(s.LastUpdated), Deleted: s.Deleted, Source: ledgerfeedv1.Source_SOURCE_CDC,
		Operation: ledgerfeedv1.Operation_OPERATION_UPDATE, LearnedAt: timestamppb.New(s.LastUpdated),
	}
	if !s.Deleted {
		c.Document = s.Raw
	}
	return c
}

// Each kind of sink must show a wrong tombstone, an older document of the same
// version, and nothing where it holds what QuickBooks has.
func TestCompare_OfWhatAPlaceHolds(t *testing.T) {
	truth, customer := books(t)
	require.Equal(t, customer[0].Version, customer[2].Version)
	one := sink.Ref{Realm: "1", Entity: "Customer", ID: "1"}
	invoice := sink.Ref{Realm: "1", Entity: "Invoice", ID: "1"}
	for _, tt := range []struct {
		name  string
		hold  func(map[sink.Ref]*ledgerfeedv1.Change)
		wrong int // tombstones
		other int // contents
		extra int
		stale int
	}{
		{"what QuickBooks has", func(map[sink.Ref]*ledgerfeedv1.Change) {}, 0, 0, 0, 0},
		{"the balance before", func(c map[sink.Ref]*ledgerfeedv1.Change) { c[one] = changeOf(one, customer[1]) }, 0, 1, 0, 0},
		{"the first balance", func(c map[sink.Ref]*ledgerfeedv1.Change) { c[one] = changeOf(one, customer[0]) }, 0, 1, 0, 0},
		{"no document", func(c map[sink.Ref]*ledgerfeedv1.Change) { c[invoice].Document = []byte(`{}`) }, 0, 1, 0, 0},
		{"a deletion that was only claimed", func(c map[sink.Ref]*ledgerfeedv1.Change) {
			c[invoice] = &ledgerfeedv1.Change{RealmId: "1", Entity: "Invoice", EntityId: "1", Version: truth[invoice].Version + 1e12, Deleted: true}
		}, 1, 0, 1, 0},
		{"an older deletion that was only claimed", func(c map[sink.Ref]*ledgerfeedv1.Change) {
			c[one] = &ledgerfeedv1.Change{RealmId: "1", Entity: "Customer", EntityId: "1", Version: truth[one].Version - 1e6, Deleted: true}
		}, 1, 0, 0, 1},
		{"both", func(c map[sink.Ref]*ledgerfeedv1.Change) {
			c[one] = changeOf(one, customer[1])
			c[invoice] = &ledgerfeedv1.Change{RealmId: "1", Entity: "Invoice", EntityId: "1", Version: truth[invoice].Version + 1e12, Deleted: true}
		}, 1, 1, 1, 0},
	} {
		for kind, where := range map[string]func() string{
			kindJSONL:    func() string { return filepath.Join(t.TempDir(), "changes.jsonl") },
			kindPostgres: func() string { return devtest.Postgres(t) },
		} {
			t.Run(tt.name+"/"+kind, func(t *testing.T) {
				changes := map[sink.Ref]*ledgerfeedv1.Change{}
				for ref, state := range truth {
					changes[ref] = changeOf(ref, state)
				}
				tt.hold(changes)
				var batch []*ledgerfeedv1.Change
				for _, ref := range sortedKeys(changes) {
					batch = append(batch, changes[ref])
				}
				p, err := openNamed(t.Context(), DefaultOptions(), Target{Kind: kind, Where: where()}, "books")
				require.NoError(t, err)
				t.Cleanup(func() { require.NoError(t, p.Close()) })
				require.NoError(t, p.Write(t.Context(), batch))
				held, err := holdings(t.Context(), p)
				require.NoError(t, err)

				d := compare(truth, held)
				require.Equal(t, []int{tt.wrong, tt.other, tt.extra, tt.stale}, []int{d.wrongTombstones, d.contentDiffers, d.extra, d.stale}, "%v", d.examples)
				require.Equal(t, 3, d.changes)
				require.Zero(t, d.lost)
				var s Summary
				s.addSink("books", Target{Kind: kind}, len(held), counts{}, d)
				require.Equal(t, tt.wrong+tt.other == 0, s.Equal())
				line, err := json.Marshal(s)
				require.NoError(t, err)
				var shown struct {
					Wrong *int `json:"wrong_tombstones"`
					Other *int `json:"content_differs"`
					Sinks []struct {
						Wrong *int `json:"wrong_tombstones"`
						Other *int `json:"content_differs"`
					}
				}
				require.NoError(t, json.Unmarshal(line, &shown))
				require.Equal(t, []int{tt.wrong, tt.other, tt.wrong, tt.other}, []int{*shown.Wrong, *shown.Other, *shown.Sinks[0].Wrong, *shown.Sinks[0].Other})
			})
		}
	}
}

// Of two documents of one version a file has both: the one written last counts.
func TestHoldings_OfOneVersionTheLastOneCounts(t *testing.T) {
	truth, customer := books(t)
	ref := sink.Ref{Realm: "1", Entity: "Customer", ID: "1"}
	p, err := openNamed(t.Context(), DefaultOptions(), Target{Kind: kindJSONL, Where: filepath.Join(t.TempDir(), "x.jsonl")}, "x")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	for _, state := range customer {
		require.NoError(t, p.Write(t.Context(), []*ledgerfeedv1.Change{changeOf(ref, state)}))
	}
	held, err := holdings(t.Context(), p)
	require.NoError(t, err)
	require.Equal(t, contentOf(truth[ref].Raw), held[ref].content)
}

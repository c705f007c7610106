package qbosim_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
)

func TestChange_HistoryTellsEveryState(t *testing.T) {
	t.Parallel()
	b := setup(t)
	start := b.Now()
	second := func(n int64) int64 { return (start.Unix() + n) * 1e6 }
	ref := b.create("Invoice", map[string]any{"PrivateNote": "mine"})
	b.Advance(time.Second)
	require.NoError(t, b.Update(ref, map[string]any{"PrivateNote": "yours"}))
	require.NoError(t, b.Email(ref))
	b.Advance(time.Second)
	require.NoError(t, b.Void(ref))
	b.Advance(-time.Hour) // the clock is set back; Intuit's time is not
	require.NoError(t, b.Delete(ref))

	history := b.History(ref)
	type line struct {
		Version          int64
		SyncToken        string
		Deleted          bool
		Operation, Notes string
	}
	var got []line
	for _, s := range history {
		var o object
		require.NoError(t, json.Unmarshal(s.Raw, &o))
		require.Equal(t, ref.ID, o.ID)
		at, err := time.Parse(time.RFC3339, o.MetaData.LastUpdatedTime)
		require.NoError(t, err)
		require.True(t, at.Equal(s.LastUpdated))
		got = append(got, line{s.Version, s.SyncToken, s.Deleted, s.Operation, o.PrivateNote})
	}
	require.Empty(t, cmp.Diff([]line{
		{second(0), "0", false, "Create", "mine"},
		{second(1) + 1, "1", false, "Update", "yours"},
		{second(1) + 2, "2", false, "Emailed", "yours"},
		{second(2) + 3, "3", false, "Void", "Voided"},
		{second(2) + 999_999, "", true, "Delete", ""},
	}, got))
	require.Empty(t, cmp.Diff(history[4], b.Truth(realm)[ref]))
}

func TestChange_Refuses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.AddRealm(other)
	invoice, customer, gone := b.create("Invoice", nil), b.create("Customer", nil), b.create("Customer", nil)
	require.NoError(t, b.HardDelete(gone))
	bill := b.create("Bill", nil)
	elsewhere, err := b.Create(other, "Customer", nil)
	require.NoError(t, err)
	create := func(realm, name string) error { _, err := b.Create(realm, name, nil); return err }
	tests := []struct {
		name string
		err  error
		want error
	}{
		{"unknown realm", create("1", "Invoice"), qbosim.ErrUnknownRealm},
		{"unknown entity", create(realm, "Fax"), qbosim.ErrUnknownEntity},
		{"unknown record", b.Update(qbosim.Ref{Realm: realm, Entity: "Invoice", ID: "9"}, nil), qbosim.ErrNotFound},
		{"deleted record", b.Update(gone, nil), qbosim.ErrNotFound},
		{"deleted twice", b.HardDelete(gone), qbosim.ErrNotFound},
		{"void a bill", b.Void(bill), qbosim.ErrNotSupported},
		{"email a customer", b.Email(customer), qbosim.ErrNotSupported},
		{"deactivate an invoice", b.Deactivate(invoice), qbosim.ErrNotSupported},
		{"merge with itself", b.Merge(customer, customer), qbosim.ErrNotSupported},
		{"merge over realms", b.Merge(customer, elsewhere), qbosim.ErrNotSupported},
		{"merge over entities", b.Merge(customer, bill), qbosim.ErrNotSupported},
		{"merge what is gone", b.Merge(customer, gone), qbosim.ErrNotFound},
		{"merge invoices", b.Merge(invoice, b.create("Invoice", nil)), qbosim.ErrNotSupported},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { require.ErrorIs(t, tt.err, tt.want) })
	}
	require.ErrorContains(t, b.Update(customer, map[string]any{"SyncToken": "7"}), "field SyncToken")
	require.Len(t, b.History(customer), 1, "a refused change leaves nothing")
	require.Nil(t, b.History(qbosim.Ref{Realm: "1"}))
	require.Nil(t, b.Truth("1"))
}

func TestChange_WorksForEveryEntityOfTheTable(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, info := range entity.All() {
		ref := b.create(info.Name, nil)
		want := "1"
		if info.Name == "ExchangeRate" {
			want = "EUR-2026-01-01"
		}
		require.Equal(t, want, ref.ID, "ids are counted per entity")
		require.NoError(t, b.Update(ref, nil))
		require.NoError(t, b.Delete(ref))
		state := b.Truth(realm)[ref]
		require.Equal(t, info.List, state.Inactive, info.Name)
		require.Equal(t, info.List, !state.Deleted, info.Name)
		if info.Query {
			require.Empty(t, b.query("SELECT * FROM "+info.Name))
		}
	}
}

func TestChange_InvoiceRefersToRecordsThatExist(t *testing.T) {
	t.Parallel()
	b := setup(t)
	customer, item := b.create("Customer", nil), b.create("Item", nil)
	var invoice struct {
		CustomerRef struct{ Value, Name string }
		TotalAmt    float64
		Line        []struct {
			Amount              float64
			DetailType          string
			SalesItemLineDetail struct {
				ItemRef        struct{ Value, Name string }
				Qty, UnitPrice float64
			}
		}
	}
	ref := b.create("Invoice", nil)
	require.NoError(t, json.Unmarshal(b.Truth(realm)[ref].Raw, &invoice))
	var named object
	require.NoError(t, json.Unmarshal(b.Truth(realm)[customer].Raw, &named))
	require.Equal(t, customer.ID, invoice.CustomerRef.Value)
	require.Equal(t, named.DisplayName, invoice.CustomerRef.Name)
	require.GreaterOrEqual(t, len(invoice.Line), 2)
	sum := 0.0
	for _, line := range invoice.Line[:len(invoice.Line)-1] {
		require.Equal(t, item.ID, line.SalesItemLineDetail.ItemRef.Value)
		require.InDelta(t, line.SalesItemLineDetail.Qty*line.SalesItemLineDetail.UnitPrice, line.Amount, 0.005)
		sum += line.Amount
	}
	require.InDelta(t, sum, invoice.TotalAmt, 0.005)
	require.Equal(t, "SubTotalLineDetail", invoice.Line[len(invoice.Line)-1].DetailType)
}

func TestChange_TwoWritesOfARecordAreAMillisecondApart(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ref := b.create("Item", nil)
	for range 1500 {
		require.NoError(t, b.Update(ref, nil))
	}
	history := b.History(ref)
	require.Equal(t, b.Now().Add(time.Second), history[1500].LastUpdated)
	for i := 1; i < len(history); i++ {
		require.Greater(t, history[i].Version, history[i-1].Version)
	}
	// What comes after is not older, and an answer's time covers it.
	later := b.create("Bill", nil)
	require.Equal(t, b.Now().Add(time.Second), b.Truth(realm)[later].LastUpdated)
	at, err := time.Parse(time.RFC3339, b.cdc("Bill", b.Now()).Time)
	require.NoError(t, err)
	require.False(t, at.Before(b.Now().Add(time.Second)))
}

// drawn is what Step did, without the times.
type drawn struct {
	Ref       qbosim.Ref
	Operation string
	SyncToken string
	Fields    map[string]any
}

func steps(t *testing.T, b *bundle, realm string, n int) []drawn {
	t.Helper()
	var all []drawn
	for range n {
		ref, err := b.Step(realm)
		require.NoError(t, err)
		b.Advance(70 * time.Millisecond)
		state := b.Truth(realm)[ref]
		d := drawn{Ref: ref, Operation: state.Operation, SyncToken: state.SyncToken}
		require.NoError(t, json.Unmarshal(state.Raw, &d.Fields))
		delete(d.Fields, "MetaData")
		delete(d.Fields, "DeliveryInfo")
		all = append(all, d)
	}
	return all
}

func TestStep_DependsOnSeedAndOrderOnly(t *testing.T) {
	t.Parallel()
	run := func(seed uint64, between func(*bundle)) []drawn {
		b := setup(t, func(o *qbosim.Options) { o.Seed = seed })
		b.AddRealm(other)
		first := steps(t, b, realm, 150)
		between(b)
		return append(first, steps(t, b, realm, 150)...)
	}
	plain := run(3, func(*bundle) {})
	disturbed := run(3, func(b *bundle) {
		b.Advance(30 * time.Minute)
		b.SetFaults(qbosim.Faults{Drop: 0.5, Duplicate: 0.5, Reorder: 0.5, Delay: time.Second})
		b.SetWebhookURL("http://127.0.0.1:1/")
		steps(t, b, other, 20)
		b.cdc("Invoice", b.Now())
	})
	require.Empty(t, cmp.Diff(plain, disturbed))
	require.NotEmpty(t, cmp.Diff(plain, run(4, func(*bundle) {})))
}

func TestStep_MakesEveryOperation(t *testing.T) {
	t.Parallel()
	b := setup(t)
	seen := map[string]int{}
	entities := map[string]int{}
	for _, d := range steps(t, b, realm, 1500) {
		seen[d.Operation]++
		entities[d.Ref.Entity]++
	}
	for _, operation := range []string{"Create", "Update", "Delete", "Merge", "Void", "Emailed"} {
		require.Positive(t, seen[operation], operation)
	}
	require.Greater(t, seen["Update"], seen["Delete"])
	require.Len(t, entities, 8)
	inactive, deleted := 0, 0
	for _, state := range b.Truth(realm) {
		if state.Inactive {
			inactive++
		}
		if state.Deleted {
			deleted++
		}
	}
	require.Positive(t, inactive)
	require.Positive(t, deleted)
}

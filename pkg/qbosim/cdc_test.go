package qbosim_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
)

func TestCDC_RefusesWhatIntuitDoesNotTake(t *testing.T) {
	t.Parallel()
	b := setup(t)
	cdc := "/v3/company/" + realm + "/cdc?"
	tests := []struct {
		name   string
		path   string
		code   string
		detail string // "" = 200
	}{
		{"UTC", cdcPath("Invoice", "2026-11-20T00:00:00Z"), "", ""},
		{"encoded offset", cdcPath("Invoice", "2026-11-20T00:00:00+02:00"), "", ""},
		{"negative offset", cdc + "entities=Invoice&changedSince=2026-11-20T00:00:00-07:00", "", ""},
		{"fraction", cdcPath("Invoice", "2026-11-20T00:00:00.123Z"), "", ""},
		{"date", cdcPath("Invoice", "2026-11-20"), "", ""},
		{"any case", cdcPath("invoice,customeR", "2026-11-20"), "", ""},
		{"future", cdcPath("Invoice", "2027-01-01"), "", ""},
		{"30 days", cdcPath("Invoice", "2026-10-24T12:00:00Z"), "", ""},
		{"plus not encoded", cdc + "entities=Invoice&changedSince=2026-11-20T00:00:00+02:00", "4000", "Invalid changedSince date: 2026-11-20T00:00:00 02:00"},
		{"no time", cdcPath("Invoice", "yesterday"), "4000", "Invalid changedSince date: yesterday"},
		{"offset without colon", cdcPath("Invoice", "2026-11-20T00:00:00-0700"), "4000", "Invalid changedSince"},
		{"changedSince missing", cdc + "entities=Invoice", "2020", "changedSince is missing"},
		{"entities missing", cdc + "changedSince=2026-11-20", "2020", "entities is missing"},
		{"unknown entity", cdcPath("Invoice,Fax", "2026-11-20"), "4001", "Metadata not found for Entity: Fax"},
		{"empty name", cdcPath("Invoice,", "2026-11-20"), "4001", "Metadata not found for Entity: "},
		{"TimeActivity", cdcPath("Invoice,TimeActivity", "2026-11-20"), "4001", "not supported for Entity: TimeActivity"},
		{"JournalCode", cdcPath("JournalCode", "2026-11-20"), "4001", "not supported for Entity: JournalCode"},
		{"TaxAgency", cdcPath("TaxAgency", "2026-11-20"), "4001", "not supported"},
		{"TaxCode", cdcPath("TaxCode", "2026-11-20"), "4001", "not supported"},
		{"TaxRate", cdcPath("TaxRate", "2026-11-20"), "4001", "not supported"},
		{
			"older than 30 days", cdcPath("Invoice", "2026-10-24T11:59:59Z"), "500",
			"Operation cdc with changedSince date 2026-10-24T11:59:59Z which is older than fixed days is not supported.",
		},
		{"minor version", cdcPath("Invoice", "2026-11-20") + "&minorversion=x", "", ""}, // the first one counts
		{"minor version is no number", cdc + "entities=Invoice&changedSince=2026-11-20&minorversion=x", "2010", "minorversion: x"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := b.get(tt.path)
			if tt.detail == "" {
				require.Equal(t, 200, a.Status, "%s", a.Body)
				return
			}
			require.Equal(t, 400, a.Status)
			f := a.fault(t)
			require.Equal(t, tt.code, f.Code)
			require.Contains(t, f.Detail, tt.detail)
		})
	}
}

func TestCDC_ShowsEachChangeAsIntuitDoes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	since := b.Now()
	customer, vendor, kept := b.create("Customer", nil), b.create("Vendor", nil), b.create("Vendor", nil)
	deleted, voided, emailed, updated := b.create("Invoice", nil), b.create("Invoice", nil), b.create("Invoice", nil), b.create("Invoice", nil)
	b.Advance(time.Second)
	require.NoError(t, b.Delete(customer))
	require.NoError(t, b.Merge(kept, vendor))
	require.NoError(t, b.Delete(deleted))
	require.NoError(t, b.Void(voided))
	require.NoError(t, b.Email(emailed))
	require.NoError(t, b.Update(updated, nil))

	got := b.cdc("Invoice,Customer,Vendor,Bill", since)
	require.Len(t, got.CDCResponse[0].QueryResponse, 4, "a block for each entity")
	changed := func(name, id string) object {
		objects := got.of(t, name)
		at := slices.IndexFunc(objects, func(o object) bool { return o.ID == id })
		require.GreaterOrEqual(t, at, 0, "%s %s", name, id)
		return objects[at]
	}
	tests := []struct {
		name, entity, id string
		want             func(object) bool
	}{
		{"a deleted customer is inactive", "Customer", customer.ID, func(o object) bool {
			return o.Status == "" && !*o.Active && o.SyncToken == "1" && strings.HasSuffix(o.DisplayName, " (deleted)")
		}},
		{"a deleted invoice is gone", "Invoice", deleted.ID, func(o object) bool { return o.Status == "Deleted" && o.SyncToken == "" }},
		{"a merged vendor is gone", "Vendor", vendor.ID, func(o object) bool { return o.Status == "Deleted" }},
		{"its survivor is updated", "Vendor", kept.ID, func(o object) bool { return o.Status == "" && o.SyncToken == "1" && *o.Active }},
		{"a voided invoice has no amounts", "Invoice", voided.ID, func(o object) bool {
			return o.TotalAmt == 0 && o.Balance == 0 && o.PrivateNote == "Voided" && o.SyncToken == "1"
		}},
		{"an emailed invoice says so", "Invoice", emailed.ID, func(o object) bool { return o.EmailStatus == "EmailSent" && o.TotalAmt > 0 }},
		{"an updated invoice is whole", "Invoice", updated.ID, func(o object) bool { return o.TotalAmt > 0 && o.TxnDate != "" }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := changed(tt.entity, tt.id)
			require.True(t, tt.want(o), "%+v", o)
			at, err := time.Parse(time.RFC3339, o.MetaData.LastUpdatedTime)
			require.NoError(t, err)
			require.Equal(t, since.Add(time.Second), at.UTC())
		})
	}
}

func TestCDC_DeletedObjectHasFourFields(t *testing.T) {
	t.Parallel()
	b := setup(t)
	since := b.Now()
	require.NoError(t, b.Delete(b.create("Bill", nil)))
	var blocks []map[string]any
	for _, block := range b.cdc("Bill", since).CDCResponse[0].QueryResponse {
		require.NoError(t, json.Unmarshal(block["Bill"], &blocks))
	}
	require.Len(t, blocks, 1)
	meta := blocks[0]["MetaData"].(map[string]any)
	require.Len(t, meta, 1)
	at, err := time.Parse(time.RFC3339, meta["LastUpdatedTime"].(string))
	require.NoError(t, err)
	require.WithinDuration(t, since, at, time.Second)
	delete(blocks[0], "MetaData")
	require.Empty(t, cmp.Diff(map[string]any{"domain": "QBO", "status": "Deleted", "Id": "1"}, blocks[0]))
}

func TestCDC_ADeletedObjectMayHaveNoMetaData(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *qbosim.Options) { o.Faults.BareDeletes = 0.5 })
	since := b.Now()
	for range 40 {
		require.NoError(t, b.Delete(b.create("Bill", nil)))
	}
	shown := func() map[string]bool {
		var objects []map[string]any
		for _, block := range b.cdc("Bill", since).CDCResponse[0].QueryResponse {
			require.NoError(t, json.Unmarshal(block["Bill"], &objects))
		}
		require.Len(t, objects, 40)
		bare := map[string]bool{}
		for _, o := range objects {
			if _, dated := o["MetaData"]; !dated {
				bare[o["Id"].(string)] = true
				require.Empty(t, cmp.Diff(map[string]any{"domain": "QBO", "status": "Deleted", "Id": o["Id"]}, o))
			}
		}
		return bare
	}
	first := shown()
	require.InDelta(t, 20, len(first), 12)
	require.Equal(t, first, shown(), "a record is shown alike in every answer")
	b.SetFaults(qbosim.Faults{BareDeletes: 1})
	require.Len(t, shown(), 40)
}

func TestCDC_DeletedObjectsComeLastAndAreCutFirst(t *testing.T) {
	t.Parallel()
	b := setup(t)
	since := b.Now()
	for n := range 1010 {
		ref := b.create("Invoice", nil)
		if n < 8 {
			require.NoError(t, b.Delete(ref))
		}
	}
	for range 10 {
		got := b.cdc("Invoice", since).of(t, "Invoice")
		require.Len(t, got, 1000)
		for _, o := range got {
			require.Empty(t, o.Status, "1,002 active ones leave no room for the deleted")
		}
	}
	require.NoError(t, b.Delete(qbosim.Ref{Realm: realm, Entity: "Invoice", ID: "500"}))
	for n := range 4 {
		require.NoError(t, b.Delete(qbosim.Ref{Realm: realm, Entity: "Invoice", ID: fmt.Sprint(600 + n)}))
	}
	deleted := map[string]bool{}
	for range 20 {
		got := b.cdc("Invoice", since).of(t, "Invoice")
		require.Len(t, got, 1000)
		for n, o := range got {
			require.Equal(t, n >= 997, o.Status == "Deleted", "997 are active")
			if o.Status != "" {
				deleted[o.ID] = true
			}
		}
	}
	require.True(t, deleted["1"] && deleted["603"], "now the oldest, now the newest deletions are kept")
}

func TestCDC_ABlockOfDeletionsHasNoStartPosition(t *testing.T) {
	t.Parallel()
	b := setup(t)
	since := b.Now()
	one, two := b.create("Invoice", nil), b.create("Invoice", nil)
	require.NoError(t, b.Delete(one))
	started := false
	for range 30 {
		_, ok := b.cdc("Invoice", since).CDCResponse[0].QueryResponse[0]["startPosition"]
		started = started || ok
	}
	require.True(t, started, "a block with active objects may have one")
	require.NoError(t, b.Delete(two))
	for range 30 {
		block := b.cdc("Invoice", since).CDCResponse[0].QueryResponse[0]
		require.NotContains(t, block, "startPosition")
		require.JSONEq(t, `2`, string(block["maxResults"]))
		require.JSONEq(t, `2`, string(block["totalCount"]))
	}
}

func TestCDC_IsInclusive(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.create("Item", nil)
	require.Len(t, b.cdc("Item", b.Now()).of(t, "Item"), 1)
	require.Empty(t, b.cdc("Item", b.Now().Add(time.Second)).of(t, "Item"))
}

func TestCDC_ShowsOnlyTheLatestState(t *testing.T) {
	t.Parallel()
	b := setup(t)
	since := b.Now()
	ref := b.create("Item", nil)
	for range 5 {
		require.NoError(t, b.Update(ref, nil))
	}
	got := b.cdc("Item", since).of(t, "Item")
	require.Len(t, got, 1)
	require.Equal(t, "5", got[0].SyncToken)
}

func TestCDC_CutsAtThousandOverAllEntities(t *testing.T) {
	t.Parallel()
	b := setup(t)
	since := b.Now()
	for range 600 {
		b.create("JournalEntry", nil)
		b.create("Item", nil)
	}
	kept := map[string]bool{}
	for range 20 {
		got := b.cdc("JournalEntry,Item,Bill", since)
		journal, items := got.of(t, "JournalEntry"), got.of(t, "Item")
		require.Equal(t, 1000, len(journal)+len(items))
		require.Contains(t, []int{400, 600}, len(journal))
		require.Len(t, got.CDCResponse[0].QueryResponse, 3)
		cut := journal
		if len(items) == 400 {
			cut = items
		}
		for _, id := range []string{"1", "600"} {
			kept[id] = kept[id] || slices.Contains(ids(cut), id)
		}
	}
	require.Equal(t, map[string]bool{"1": true, "600": true}, kept, "now the oldest, now the newest are kept")
	require.Len(t, b.cdc("Item", since).of(t, "Item"), 600)
}

func TestCDC_BlocksComeInAnyOrderAndEmptyOnesHaveNoName(t *testing.T) {
	t.Parallel()
	b := setup(t)
	since := b.Now()
	b.create("Invoice", nil)
	b.create("Customer", nil)
	orders := map[string]bool{}
	for range 30 {
		var order []string
		for _, block := range b.cdc("Invoice,Bill,Customer", since).CDCResponse[0].QueryResponse {
			name := "{}"
			for key := range block {
				if key == "Invoice" || key == "Customer" {
					name = key
				}
			}
			require.False(t, name == "{}" && len(block) > 0, "%v", block)
			order = append(order, name)
		}
		orders[fmt.Sprint(order)] = true
	}
	require.Len(t, orders, 6, "all orders of three blocks")
}

func TestCDC_TimeIsIntuitsClockWithAnOffset(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Advance(123 * time.Millisecond)
	for range 20 {
		text := b.cdc("Bill", b.Now().Add(-time.Hour)).Time
		require.Regexp(t, `^2026-11-23T0[45]:00:00(\.123)?-0[78]:00$`, text)
		at, err := time.Parse(time.RFC3339, text)
		require.NoError(t, err)
		require.Equal(t, b.Now().Truncate(time.Second), at.UTC().Truncate(time.Second))
	}
}

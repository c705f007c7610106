package entity_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
)

// portal reads the event types of Intuit's subscription page: lower-case entity
// to operations in the legacy spelling.
func portal(t *testing.T) map[string][]string {
	t.Helper()
	spelled := map[string]string{
		"created": "Create", "updated": "Update", "deleted": "Delete",
		"merged": "Merge", "void": "Void", "emailed": "Emailed",
	}
	raw, err := os.ReadFile("testdata/portal_108.txt")
	require.NoError(t, err)
	types := strings.Fields(string(raw))
	require.Len(t, types, 108)
	offered := map[string][]string{}
	for _, typ := range types {
		parts := strings.Split(typ, ".")
		require.Len(t, parts, 4, typ)
		require.Contains(t, spelled, parts[2])
		offered[parts[1]] = append(offered[parts[1]], spelled[parts[2]])
	}
	return offered
}

func TestTable_OffersExactlyThePortalsWebhooks(t *testing.T) {
	want := portal(t)
	require.Len(t, want, 31)
	got := map[string][]string{}
	for _, info := range entity.All() {
		if len(info.Operations) > 0 {
			got[strings.ToLower(info.Name)] = info.Operations
		}
	}
	require.Empty(t, cmp.Diff(want, got))
}

func TestAll_IsSortedUniqueAndACopy(t *testing.T) {
	all := entity.All()
	names := make([]string, len(all))
	for i, info := range all {
		names[i] = info.Name
	}
	require.True(t, slices.IsSorted(names))
	require.Len(t, slices.Compact(slices.Clone(names)), len(names))

	all[0].Name = "Changed"
	all[0].Operations[0] = "Changed"
	require.Equal(t, "Account", entity.All()[0].Name)
	require.Equal(t, "Create", entity.All()[0].Operations[0])
}

func TestLookup_FindsAnyCase(t *testing.T) {
	for _, name := range []string{"CreditMemo", "creditmemo", "CREDITMEMO", "creditMemo"} {
		info, ok := entity.Lookup(name)
		require.True(t, ok, name)
		require.Equal(t, "CreditMemo", info.Name)
		require.Equal(t, "CreditMemo", entity.Canonical(name))
	}
	info, _ := entity.Lookup("account")
	info.Operations[0] = "Changed"
	again, _ := entity.Lookup("account")
	require.Equal(t, "Create", again.Operations[0], "the answer must be a copy")
}

func TestLookup_UnknownStaysAsReceived(t *testing.T) {
	for _, name := range []string{"", "Spaceship", "credit_memo", "Invoice "} {
		_, ok := entity.Lookup(name)
		require.False(t, ok, name)
		require.Equal(t, name, entity.Canonical(name))
	}
}

func TestCDC_IsTheKnownGoodSet(t *testing.T) {
	require.Equal(t, []string{
		"Account", "Bill", "BillPayment", "Budget", "Class", "CreditMemo", "Customer", "Department",
		"Deposit", "Employee", "Estimate", "Invoice", "Item", "JournalEntry", "Payment", "PaymentMethod",
		"Purchase", "PurchaseOrder", "RefundReceipt", "SalesReceipt", "Term", "Transfer", "Vendor", "VendorCredit",
	}, entity.CDC())
}

func TestQueryOnly_IsIntuitsListAndNotInCDC(t *testing.T) {
	only := entity.QueryOnly()
	require.Equal(t, []string{"JournalCode", "TaxAgency", "TaxCode", "TaxRate", "TimeActivity"}, only)
	for _, name := range only {
		info, ok := entity.Lookup(name)
		require.True(t, ok)
		require.True(t, info.Query)
		require.False(t, info.CDC)
	}
	only[0] = "Changed"
	require.Equal(t, "JournalCode", entity.QueryOnly()[0])
}

func TestTable_EveryScannedOrAnnouncedEntityCanBeQueried(t *testing.T) {
	for _, info := range entity.All() {
		if info.CDC || len(info.Operations) > 0 {
			require.True(t, info.Query, info.Name)
		}
	}
}

func TestQueryable_IsAllThatHasRecords(t *testing.T) {
	names := entity.Queryable()
	require.Len(t, names, 42)
	for _, name := range []string{"Attachable", "CompanyInfo", "CreditCardPayment", "CustomerType", "ExchangeRate", "InventoryAdjustment", "RecurringTransaction", "ReimburseCharge", "TaxPayment"} {
		require.Contains(t, names, name)
	}
	require.Equal(t, "CreditCardPayment", entity.Canonical("CreditCardPaymentTxn"), "as answers call it")
}

func TestCanonical_DoesNotAllocate(t *testing.T) {
	require.Zero(t, testing.AllocsPerRun(100, func() { entity.Canonical("creditmemo"); entity.Canonical("CreditMemo") }))
}

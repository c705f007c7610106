package qbosim_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
)

func TestUnselected_ReadsEventTypes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]qbosim.Unselected{
		"invoice.update":       {Entity: "Invoice", Operation: "Update"},
		"Invoice.Updated@10s":  {Entity: "Invoice", Operation: "Update", After: 10 * time.Second},
		"creditmemo.voided":    {Entity: "CreditMemo", Operation: "Void"},
		"customer.merge@1m0s":  {Entity: "Customer", Operation: "Merge", After: time.Minute},
		"salesreceipt.emailed": {Entity: "SalesReceipt", Operation: "Emailed"},
	} {
		var got qbosim.Unselected
		require.NoError(t, got.UnmarshalText([]byte(text)), text)
		require.Equal(t, want, got)
		var again qbosim.Unselected
		require.NoError(t, again.UnmarshalText([]byte(got.String())))
		require.Equal(t, got, again)
	}
	for text, want := range map[string]string{
		"invoice":            "for Invoice QuickBooks offers create, update, delete",
		"invoice.merge":      "for Invoice QuickBooks offers",
		"spaceship.update":   "no webhooks for",
		"attachable.update":  "no webhooks for",
		"invoice.update@":    "duration",
		"invoice.update@-1s": "duration",
		"":                   "ENTITY.OPERATION",
	} {
		var u qbosim.Unselected
		require.ErrorContains(t, u.UnmarshalText([]byte(text)), want, text)
	}
}

// An event type that is not selected makes no webhook, and can be selected again while
// the simulator runs.
func TestWebhook_OnlyOfSelectedEventTypes(t *testing.T) {
	t.Parallel()
	a := newApp(t, always)
	b := subscribed(t, a, func(o *qbosim.Options) {
		o.Unselected = []qbosim.Unselected{{Entity: "Invoice", Operation: "Update"}, {Entity: "Vendor", Operation: "Create", After: 10 * time.Second}}
	})
	ref := b.create("Invoice", nil)
	b.create("Vendor", nil)
	b.Advance(10 * time.Second)
	require.NoError(t, b.Update(ref, nil))
	b.create("Vendor", nil)
	require.NoError(t, b.ForgeDelete(ref, time.Time{}), "another type is selected still")
	b.flush()
	require.Equal(t, 2, b.Stats().WebhookEventsUnselected)
	require.Zero(t, b.Stats().WebhookEventsDropped)
	got := map[string]int{}
	for _, e := range a.events(t) {
		got[e.Entity+" "+e.Operation.String()]++
	}
	require.Len(t, a.events(t), 3, "%v", got)

	b.SetUnselected(nil)
	require.Empty(t, b.Unselected())
	require.NoError(t, b.Update(ref, nil))
	b.flush()
	require.Len(t, a.events(t), 4)

	b.SetUnselected([]qbosim.Unselected{{Entity: "Invoice", Operation: "Delete"}})
	require.NoError(t, b.ForgeDelete(ref, time.Time{}))
	require.NoError(t, b.Delete(ref))
	b.flush()
	require.Len(t, a.events(t), 4, "wrong deletions come from Intuit too")
}

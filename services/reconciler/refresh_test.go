package reconciler_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// Customers, vendors, items and accounts that a day's transactions reference are read
// once that day, and what differs from what was delivered is published.
func TestRefresh_ReadsWhatTransactionsReferenceOnceADay(t *testing.T) {
	b := setup(t)
	b.config.RefreshReferenced = true
	customer, item, untouched := b.create("Customer"), b.create("Item"), b.create("Customer")
	r := b.reconciler()
	b.clock.Advance(time.Hour)
	b.reconcile(r)
	truth := b.sim.Truth(realm)
	// The balance has moved since it was delivered: under the same version.
	for _, ref := range []state.Ref{{Entity: "Customer", ID: customer.ID}, {Entity: "Customer", ID: untouched.ID}} {
		require.NoError(t, b.store.Advance(t.Context(), realm, "ledger", []state.Advance{{
			Ref: ref, Version: truth[customer].Version, Hash: "of before",
		}}))
	}
	require.NoError(t, b.store.Advance(t.Context(), realm, "ledger", []state.Advance{{
		Ref: state.Ref{Entity: "Item", ID: item.ID}, Version: truth[item].Version, Hash: qbo.ContentHash(truth[item].Raw),
	}}))
	b.clock.Advance(24 * time.Hour)
	quiet := b.scheduled(r).Calls
	b.feed.forget()
	invoice := func() {
		_, err := b.sim.Create(realm, "Invoice", map[string]any{
			"CustomerRef": map[string]any{"value": customer.ID},
			"Line":        []any{map[string]any{"SalesItemLineDetail": map[string]any{"ItemRef": map[string]any{"value": item.ID}}}},
		})
		require.NoError(t, err)
		b.clock.Advance(10 * time.Minute)
	}
	invoice()
	require.Equal(t, quiet+2, b.scheduled(r).Calls, "one Query for customers, one for items")
	require.Eventually(t, func() bool {
		var ids []string
		for _, e := range b.feed.seen() {
			if e.GetEntity() != "Invoice" {
				ids = append(ids, e.GetEntity()+e.GetEntityId())
			}
		}
		return slices.Equal(ids, []string{"Customer" + customer.ID})
	}, patient, time.Millisecond)
	invoice()
	require.Equal(t, quiet, b.scheduled(r).Calls, "once a day")
	b.clock.Advance(24 * time.Hour)
	require.Equal(t, quiet+2, b.scheduled(r).Calls, "what was noted meanwhile")
}

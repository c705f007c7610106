package processor_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// Each of the 42 entities is read by its key, as a scan asks for it.
func TestProcessor_ReadsEachEntityByItsKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	refs, err := b.sim.Populate(realm)
	require.NoError(t, err)
	require.Len(t, refs, 42)
	second := b.create("ExchangeRate", nil)
	refs = append(refs, second)
	b.webhooks()
	var events []*ledgerfeedv1.Event
	for _, ref := range refs {
		events = append(events, &ledgerfeedv1.Event{
			Id: ref.Entity + ref.ID, Entity: ref.Entity, EntityId: ref.ID, Operation: updated, Version: b.sim.Truth(realm)[ref].Version,
		})
	}
	p := b.start()
	b.publish(envelope.New(ledgerfeedv1.Source_SOURCE_QUERY, realm, "scan", events, envelope.Meta{ReceivedAt: b.clock.Now()})...)
	b.settle(p)
	b.requireEqual()
	for _, ref := range refs {
		require.JSONEq(t, string(b.sim.Truth(realm)[ref].Raw), string(b.a.last(t, ref).GetDocument()), ref.Entity)
	}
}

// A company has twelve custom fields, of which CDC shows three: once that is known, each
// document is a Query's.
func TestProcessor_DocumentsHaveAllCustomFields(t *testing.T) {
	t.Parallel()
	b := setup(t)
	fields := make([]any, 12)
	for i := range fields {
		fields[i] = map[string]any{"DefinitionId": string(rune('a' + i)), "StringValue": "x"}
	}
	custom := map[string]any{"CustomField": fields}
	first := b.create("Invoice", custom)
	p := b.start()
	b.deliver(p)
	known, err := b.store.CustomFields(t.Context(), realm)
	require.NoError(t, err)
	require.True(t, known.Enhanced)

	invoice, customer := b.create("Invoice", custom), b.create("Customer", custom)
	b.create("Payment", nil)
	b.deliver(p)
	b.requireEqual()
	for _, ref := range []struct{ entity, id string }{{"Invoice", first.ID}, {"Invoice", invoice.ID}, {"Customer", customer.ID}} {
		for r, s := range b.sim.Truth(realm) {
			if r.Entity == ref.entity && r.ID == ref.id {
				var document struct{ CustomField []any }
				require.NoError(t, json.Unmarshal(b.a.last(t, r).GetDocument(), &document))
				require.Len(t, document.CustomField, 12)
				require.JSONEq(t, string(s.Raw), string(b.a.last(t, r).GetDocument()))
			}
		}
	}
}

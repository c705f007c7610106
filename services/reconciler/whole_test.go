package reconciler_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/reconciler"
)

// whole is a loaded company that has records of all entities.
func whole(t *testing.T) (*bundle, []qbosim.Ref) {
	t.Helper()
	b := setup(t)
	refs, err := b.sim.Populate(realm)
	require.NoError(t, err)
	require.Len(t, refs, 42)
	b.clock.Advance(time.Hour)
	b.reconcile(b.reconciler())
	b.requireEqual()
	return b, refs
}

func TestWhole_AllEntitiesAreLoadedAndScanned(t *testing.T) {
	t.Parallel()
	b, refs := whole(t)
	require.Equal(t, entity.Queryable(), sorted(b.config.CDCEntities, b.config.QueryEntities))
	require.Empty(t, b.behind())
	b.clock.Advance(10 * 24 * time.Hour)
	for _, ref := range refs {
		require.NoError(t, b.sim.Update(ref, nil))
	}
	b.clock.Advance(time.Hour)
	report := b.reconcile(b.reconciler())
	require.Empty(t, report.Incomplete)
	b.requireEqual()
	b.requireHonest()
}

func sorted(lists ...[]string) []string {
	var all []string
	for _, info := range entity.All() {
		for _, list := range lists {
			for _, name := range list {
				if name == info.Name {
					all = append(all, name)
				}
			}
		}
	}
	return all
}

// Neither a webhook nor CDC tells of the deletion: the turn of the entity does, and a
// second look.
func TestWhole_DeletionsWithoutWebhooksOrCDCAreFound(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"CreditCardPayment", "RecurringTransaction", "Attachable"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, r := loaded(t, 0)
			kept, gone := b.many(name, 3), b.create(name)
			b.clock.Advance(time.Hour)
			b.reconcile(r)
			r = b.reconciler()
			b.clock.Advance(24 * time.Hour)
			b.delete(gone)
			b.untilNoted(r, 1)
			b.clock.Advance(16 * time.Minute)
			b.scheduled(r)
			require.True(t, b.gone(gone))
			for _, ref := range kept {
				require.False(t, b.gone(ref))
			}
		})
	}
}

// QuickBooks deletes no rate: where it does not show an older one, it is there.
func TestWhole_ARateThatIsNotShownIsNoDeletion(t *testing.T) {
	t.Parallel()
	b, r := loaded(t, 0)
	old, fresh := b.create("ExchangeRate"), b.create("ExchangeRate")
	require.NotEqual(t, old.ID, fresh.ID)
	b.clock.Advance(time.Hour)
	b.reconcile(r)
	b.clock.Advance(24 * time.Hour)
	require.NoError(t, b.sim.HardDelete(old)) // as it looks to us
	for range 3 {
		b.clock.Advance(time.Hour)
		b.reconcile(r)
	}
	require.False(t, b.gone(old))
	require.Empty(t, b.noted())
}

// What has no key cannot be delivered: the entity is incomplete and its cursor stays.
func TestWhole_ARowWithoutAKeyIsNotCalledDelivered(t *testing.T) {
	t.Parallel()
	b, _ := whole(t)
	b.clock.Advance(time.Hour)
	b.create("ExchangeRate")
	b.clock.Advance(time.Hour)
	before := b.cursors()["ExchangeRate"]
	b.between(func(w http.ResponseWriter, r *http.Request, quickbooks http.Handler) {
		answer := httptest.NewRecorder()
		quickbooks.ServeHTTP(answer, r)
		w.WriteHeader(answer.Code)
		_, _ = w.Write(bytes.ReplaceAll(answer.Body.Bytes(), []byte(`"AsOfDate"`), []byte(`"Day"`)))
	})
	report := b.request(b.reconciler(), reconciler.Request{Realms: []string{realm}, Wait: true})
	require.Empty(t, report.Errors)
	require.Equal(t, map[string][]string{realm: {"ExchangeRate"}}, report.Incomplete)
	require.Equal(t, before, b.cursors()["ExchangeRate"])
}

// A Query leaves out an inactive Budget unless it is asked for, which is no deletion.
func TestWhole_AnInactiveBudgetIsThere(t *testing.T) {
	t.Parallel()
	b, r := loaded(t, 0)
	active, inactive := b.create("Budget"), b.create("Budget")
	require.NoError(t, b.sim.Deactivate(inactive))
	b.clock.Advance(time.Hour)
	b.reconcile(r)
	b.requireEqual()
	require.NoError(t, b.sim.Deactivate(active))
	b.clock.Advance(time.Hour)
	for range 2 {
		b.request(b.reconciler(), reconciler.Request{Realms: []string{realm}, Entities: []string{"Budget"}, Load: true, Wait: true})
		b.clock.Advance(time.Hour)
	}
	b.requireEqual()
	require.False(t, b.gone(active))
}

// An entity that the company does not use costs at most one count a week, and all of them
// no more than two calls a day beside CDC.
func TestWhole_WhatIsNotUsedCostsACountAWeekAtMost(t *testing.T) {
	t.Parallel()
	b := quiet(t)
	var mu sync.Mutex // guards counts
	counts := map[string]int{}
	var day atomic.Int64
	b.between(func(w http.ResponseWriter, r *http.Request, quickbooks http.Handler) {
		day.Add(1)
		if name, ok := strings.CutPrefix(r.URL.Query().Get("query"), "SELECT COUNT(*) FROM "); ok {
			name, _, _ = strings.Cut(name, " ")
			mu.Lock()
			counts[name]++
			mu.Unlock()
		}
		quickbooks.ServeHTTP(w, r)
	})
	const days = 28
	for range days {
		b.clock.Advance(b.config.Interval)
		b.ranSchedule(t)
		require.LessOrEqual(t, day.Swap(0), int64(3))
	}
	mu.Lock()
	defer mu.Unlock()
	for _, name := range b.config.QueryEntities {
		require.LessOrEqual(t, counts[name], days/7, name)
		require.Positive(t, counts[name], name)
	}
}

// While its records change, an entity without webhooks is read with each daily scan.
func TestWhole_AnEntityWithoutWebhooksIsReadAsOftenAsItChanges(t *testing.T) {
	t.Parallel()
	b := quiet(t)
	ref := b.create("TaxPayment")
	b.clock.Advance(time.Hour)
	b.reconcile(b.reconciler())
	require.True(t, b.has("TaxPayment", ref.ID))
	for range 5 {
		b.clock.Advance(b.config.Interval)
		ref = b.create("TaxPayment")
		b.clock.Advance(10 * time.Minute)
		b.ranSchedule(t)
		require.Eventually(t, func() bool { return b.has("TaxPayment", ref.ID) }, patient, time.Millisecond)
	}
	b.clock.Advance(25 * 24 * time.Hour)
	b.ranSchedule(t)
	reads := 0
	for range 4 {
		b.clock.Advance(b.config.Interval)
		before := b.cursors()["TaxPayment"]
		b.ranSchedule(t)
		if b.cursors()["TaxPayment"].After(before) {
			reads++
		}
	}
	require.LessOrEqual(t, reads, 2, "nothing has changed for weeks")
}

func twelve(value string) map[string]any {
	fields := make([]any, 12)
	for i := range fields {
		fields[i] = map[string]any{"DefinitionId": fmt.Sprint(i + 1), "StringValue": value}
	}
	return map[string]any{"CustomField": fields}
}

// delivered marks a record as delivered with the document that Query shows.
func (b *bundle) deliveredWhole(ref qbosim.Ref) {
	b.t.Helper()
	s := b.sim.Truth(realm)[ref]
	require.NoError(b.t, b.store.Advance(b.t.Context(), realm, "ledger", []state.Advance{{
		Ref: state.Ref{Entity: ref.Entity, ID: ref.ID}, Version: s.Version, Hash: qbo.ContentHash(s.Raw),
	}}))
	b.webhook(ref)
}

// CDC shows three of twelve custom fields: its document differs from the one delivered,
// which is no change. A Query tells, and what did change is found all the same.
func TestFields_WhatCDCLeavesOutIsNoChange(t *testing.T) {
	t.Parallel()
	b, _ := loaded(t, 0)
	require.NoError(t, b.store.NoteEnhancedFields(t.Context(), realm))
	b.clock.Advance(time.Hour)
	invoice, err := b.sim.Create(realm, "Invoice", twelve("a"))
	require.NoError(t, err)
	customer := b.create("Customer")
	b.deliveredWhole(invoice)
	b.deliveredWhole(customer)
	require.NoError(t, b.sim.Derive(customer, true)) // the same version, another balance
	b.clock.Advance(time.Minute)
	seen := len(b.feed.seen())
	b.reconcile(b.reconciler())
	require.Eventually(t, func() bool { return len(b.feed.seen()) > seen }, patient, time.Millisecond)
	for _, e := range b.feed.seen()[seen:] {
		require.Equal(t, [2]string{"Customer", customer.ID}, [2]string{e.GetEntity(), e.GetEntityId()})
		require.Equal(t, qbo.ContentHash(b.sim.Truth(realm)[customer].Raw), e.GetContentHash())
	}
}

// Whether CDC shows all custom fields is compared once a week, as long as no record has
// more than three. Once one has, what CDC has shown meanwhile is read by Query.
func TestFields_AreProbedAndRepaired(t *testing.T) {
	t.Parallel()
	b, _ := loaded(t, 0)
	known := func() state.CustomFields {
		c, err := b.store.CustomFields(t.Context(), realm)
		require.NoError(t, err)
		return c
	}
	require.False(t, known().Probed.IsZero(), "all was loaded by Query")
	b.clock.Advance(24 * time.Hour)
	invoice, err := b.sim.Create(realm, "Invoice", twelve("a"))
	require.NoError(t, err)
	// It is delivered as CDC shows it.
	cdc, err := b.client.CDC(t.Context(), realm, []string{"Invoice"}, b.clock.Now().Add(-time.Hour))
	require.NoError(t, err)
	require.NoError(t, b.store.Advance(t.Context(), realm, "ledger", []state.Advance{{
		Ref: state.Ref{Entity: "Invoice", ID: invoice.ID}, Version: b.sim.Truth(realm)[invoice].Version,
		Hash: qbo.ContentHash(cdc.Entities["Invoice"][0].Raw),
	}}))
	b.webhook(invoice)
	b.clock.Advance(time.Hour)
	b.reconcile(b.reconciler())
	require.False(t, known().Enhanced, "nothing tells yet")
	b.clock.Advance(8 * 24 * time.Hour)
	_, err = b.sim.Create(realm, "Invoice", twelve("b"))
	require.NoError(t, err)
	b.clock.Advance(time.Hour)
	b.reconcile(b.reconciler())
	require.True(t, known().Enhanced)
	require.False(t, known().Whole())
	require.False(t, known().Repair.IsZero())

	b.clock.Advance(time.Hour)
	b.reconcile(b.reconciler())
	require.Zero(t, known().Repair)
	require.Eventually(t, func() bool {
		for _, e := range b.feed.seen() {
			if e.GetEntity() == "Invoice" && e.GetEntityId() == invoice.ID && e.GetContentHash() == qbo.ContentHash(b.sim.Truth(realm)[invoice].Raw) {
				return true
			}
		}
		return false
	}, patient, time.Millisecond)
}

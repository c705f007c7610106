package reconciler_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
)

// unusable are the entities that a company which has switched nothing on cannot use.
var unusable = []string{"ChangeOrder", "CompanyCurrency", "Currency", "ExchangeRate", "InventoryAdjustment", "JournalCode", "TaxPayment", "TaxRate"}

// newCompany is one that was never scanned, and a record of the calls about it.
func newCompany(t *testing.T, names ...string) (*bundle, *gate) {
	t.Helper()
	b := setup(t)
	for _, name := range names {
		b.create(name)
	}
	b.clock.Advance(time.Hour)
	return b, b.guard("", answerTo{})
}

// day is what was asked of entities on a day of the schedule.
func (b *bundle) day(g *gate) []string {
	b.t.Helper()
	before := len(g.calls())
	b.clock.Advance(24 * time.Hour)
	b.atRest()
	return g.calls()[before:]
}

// calls are the calls so far.
func (g *gate) calls() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.asked)
}

// about are those of the calls that ask Query for an entity.
func about(asked []string, name string) (all []string) {
	for _, one := range asked {
		if strings.Contains(one+" ", " FROM "+name+" ") {
			all = append(all, one)
		}
	}
	return all
}

func TestProof_WhatACompanyCannotUseIsCountedInTheFirstWeek(t *testing.T) {
	t.Parallel()
	b, g := newCompany(t, "CompanyInfo", "Preferences", "Item", "Invoice")
	defer run(t, b.reconciler())()
	b.atRest()
	first := g.calls()
	require.Len(t, first, 42-len(unusable), "%s", strings.Join(first, "\n"))
	for _, name := range unusable {
		require.Empty(t, about(first, name), name)
		require.NotContains(t, b.cursors(), name, "nothing is said of it")
	}
	second := b.day(g)
	require.Len(t, second, 1, "CDC alone, on the day after a load: %s", strings.Join(second, "\n"))
	var counted []string
	for range 6 {
		asked := b.day(g)
		require.LessOrEqual(t, len(asked), 3, "%s", strings.Join(asked, "\n"))
		for _, name := range unusable {
			if len(about(asked, name)) > 0 {
				require.Contains(t, about(asked, name)[0], "COUNT(*)")
				counted = append(counted, name)
			}
		}
	}
	slices.Sort(counted)
	require.Equal(t, unusable, counted, "each once")
	for _, name := range unusable {
		require.Contains(t, b.cursors(), name)
	}
	b.requireEqual()
}

// A count, and a webhook, prove more than what the company says of itself.
func TestProof_OneThatIsUsedAfterAllIsLoaded(t *testing.T) {
	t.Parallel()
	b, g := newCompany(t, "CompanyInfo", "Preferences")
	rate := b.create("TaxRate") // Preferences say so
	require.NoError(t, b.sim.Update(qbosim.Ref{Realm: b.realm, Entity: "Preferences", ID: "1"}, map[string]any{
		"TaxPrefs": map[string]any{"UsingSalesTax": false}, // and now they do not
	}))
	b.clock.Advance(time.Hour)
	defer run(t, b.reconciler())()
	b.atRest()
	require.Empty(t, about(g.calls(), "TaxRate"))
	require.False(t, b.has("TaxRate", rate.ID))
	for range 7 {
		b.day(g)
	}
	require.True(t, b.has("TaxRate", rate.ID))
	b.requireEqual()
}

// Where the company does not say, or says that it uses them, all is loaded at once.
func TestProof_WithoutOneAllIsLoadedAtOnce(t *testing.T) {
	t.Parallel()
	for name, names := range map[string][]string{
		"nothing is known": {"Invoice"},
		"all are used":     append(slices.Clone(unusable), "Estimate", "TaxAgency", "CompanyInfo", "Preferences"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, g := newCompany(t, names...)
			defer run(t, b.reconciler())()
			b.atRest()
			for _, name := range unusable {
				require.Len(t, about(g.calls(), name), 1, name)
				require.Contains(t, b.cursors(), name)
			}
			b.requireEqual()
		})
	}
	t.Run("Preferences are refused", func(t *testing.T) {
		t.Parallel()
		b, g := newCompany(t, "CompanyInfo", "Preferences")
		g.set(func(g *gate) { g.victim, g.answer = "Preferences", refusals[1] })
		defer run(t, b.reconciler())()
		b.atRest()
		for _, name := range unusable {
			if name != "JournalCode" { // CompanyInfo says so
				require.Len(t, about(g.calls(), name), 1, name)
			}
		}
		require.Empty(t, about(g.calls(), "JournalCode"))
	})
}

// A rewind forgets the pace, so that the next scan is a first load again: it covers
// what was rewound, whenever it was last read or counted.
func TestProof_ARewoundEntityIsLoaded(t *testing.T) {
	t.Parallel()
	b, g := newCompany(t, "CompanyInfo", "Preferences", "Invoice")
	defer run(t, b.reconciler())()
	b.atRest()
	attached := b.create("Attachable")
	b.clock.Advance(time.Hour)
	before := len(g.calls())
	require.NoError(t, b.store.RewindCursors(t.Context(), b.realm, []string{"Attachable"}, time.Time{}))
	require.NoError(t, b.store.ScheduleIn(t.Context(), b.realm, 0))
	b.atRest()
	require.Len(t, about(g.calls()[before:], "Attachable"), 1)
	require.True(t, b.has("Attachable", attached.ID))
	cdc := func(asked string) bool { return strings.Contains(asked, ",Invoice,") }
	require.True(t, slices.ContainsFunc(g.calls()[before:], cdc), "all is covered")
}

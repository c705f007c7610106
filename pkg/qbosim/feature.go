package qbosim

import (
	"slices"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
)

// feature is what a company has switched on when it has records of some entities. Its
// Preferences, or its CompanyInfo, say so.
type feature struct {
	entities []string
	record   string // the entity that says so
	group    string // of members; empty: none
	member   string
	on, off  any
}

var features = []feature{
	{[]string{"CompanyCurrency", "Currency", exchangeRate}, "Preferences", "CurrencyPrefs", "MultiCurrencyEnabled", true, false},
	{[]string{"InventoryAdjustment"}, "Preferences", "ProductAndServicesPrefs", "QuantityOnHand", true, false},
	{[]string{"TaxAgency", "TaxPayment", "TaxRate"}, "Preferences", "TaxPrefs", "UsingSalesTax", true, false},
	{[]string{"JournalCode"}, "CompanyInfo", "", "Country", "FR", "US"},
}

// set writes what a feature is into the record that says so.
func (ft feature) set(f fields, value any) {
	if ft.group == "" {
		f[ft.member] = value
		return
	}
	group, ok := f[ft.group].(map[string]any)
	if !ok {
		group = map[string]any{}
		f[ft.group] = group
	}
	group[ft.member] = value
}

// features writes what the company uses into a new record of an entity.
func (s sampler) features(name string, f fields) fields {
	for _, ft := range features {
		if ft.record != name {
			continue
		}
		value := ft.off
		if slices.ContainsFunc(ft.entities, func(used string) bool { return s.realm.tables[used] != nil }) {
			value = ft.on
		}
		ft.set(f, value)
	}
	return f
}

// preferences are those of a small company.
func (s sampler) preferences() fields {
	return s.features("Preferences", fields{
		"AccountingInfoPrefs":     map[string]any{"FirstMonthOfFiscalYear": "January", "TrackDepartments": false},
		"CurrencyPrefs":           map[string]any{"HomeCurrency": map[string]any{"value": "USD"}},
		"ProductAndServicesPrefs": map[string]any{"ForSales": true, "ForPurchase": false},
		"SalesFormsPrefs":         map[string]any{"AllowEstimates": true},
		"TaxPrefs":                map[string]any{},
	})
}

// switchOn has the company's own records say what it uses by now: its first record of an
// entity may be the first use of a feature.
func (tx *tx) switchOn(info entity.Info) error {
	for _, ft := range features {
		if !slices.Contains(ft.entities, info.Name) || len(tx.realm.tableLocked(info).order) > 0 {
			continue
		}
		t := tx.realm.tables[ft.record]
		if t == nil || len(t.live) == 0 {
			continue // it is made with the feature
		}
		says, rec, f, err := tx.load(Ref{Realm: tx.realm.id, Entity: ft.record, ID: t.live[0].id})
		if err != nil {
			return err
		}
		ft.set(f, ft.on)
		tx.notify(says, rec.id, opUpdate, "")
		if err := tx.put(says, rec.id, rec, opUpdate, f); err != nil {
			return err
		}
	}
	return nil
}

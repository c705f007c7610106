package qbosim

import (
	"fmt"
	"slices"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
)

// unannounced makes up the fields of entities that send no webhooks; nil for others.
func (s sampler) unannounced(name, id string) fields {
	switch name {
	case "Attachable":
		return fields{"Note": "Receipt " + id, "FileName": "receipt-" + id + ".pdf", "ContentType": "application/pdf", "Size": quantity(1000 + s.IntN(90000))}
	case "CompanyInfo":
		return s.features(name, fields{"CompanyName": companyName(s.realm.id), "LegalName": companyName(s.realm.id) + " LLC", "FiscalYearStartMonth": "January", "CompanyAddr": s.address()})
	case "CreditCardPayment":
		return fields{
			"TxnDate": s.date(), "Amount": s.amount(), "PrivateNote": "",
			"BankAccountRef": reference("35", "Checking"), "CreditCardAccountRef": reference("42", "Visa"),
		}
	case "CustomerType":
		return fields{"Name": "Customer type " + id, "Active": true}
	case exchangeRate:
		day := time.Date(2026, 1, s.rates(), 0, 0, 0, 0, time.UTC)
		return fields{"SourceCurrencyCode": "EUR", "TargetCurrencyCode": "USD", "Rate": s.amount(), "AsOfDate": day.Format(time.DateOnly)}
	case "InventoryAdjustment":
		return fields{
			"TxnDate": s.date(), "DocNumber": id, "PrivateNote": "", "AdjustAccountRef": reference("80", "Inventory Shrinkage"),
			"Line": []any{map[string]any{
				"Id": "1", "DetailType": "ItemAdjustmentLineDetail",
				"ItemAdjustmentLineDetail": map[string]any{"ItemRef": s.reference("Item"), "QtyDiff": quantity(1 + s.IntN(9))},
			}},
		}
	case recurringTransaction:
		f := s.bill(id)
		f["RecurringInfo"] = map[string]any{
			"Name": "Rent " + id, "RecurType": "Automated", "Active": true,
			"ScheduleInfo": map[string]any{"IntervalType": "Monthly", "NumInterval": quantity(1)},
		}
		return f
	case "Preferences":
		return s.preferences()
	case "ReimburseCharge":
		return fields{"CustomerRef": s.reference("Customer"), "Amount": s.amount(), "HasBeenInvoiced": false, "PrivateNote": ""}
	case "TaxPayment":
		return fields{"PaymentDate": s.date(), "PaymentAmount": s.amount(), "Refund": false, "Description": "Payment " + id}
	}
	return nil
}

// rates is the next of the days that rates are made up for.
func (s sampler) rates() int {
	if t := s.realm.tables[exchangeRate]; t != nil {
		return 1 + len(t.order)
	}
	return 1
}

// Populate makes a record of each entity that Query knows and the realm has none of, so
// that the company uses all of them. What it says of itself comes last, and is true.
func (s *Sim) Populate(realm string) ([]Ref, error) {
	var made []Ref
	own := []string{"CompanyInfo", "Preferences"}
	others := slices.DeleteFunc(entity.Queryable(), func(name string) bool { return slices.Contains(own, name) })
	for _, name := range append(others, own...) {
		if s.has(realm, name) {
			continue
		}
		ref, err := s.Create(realm, name, nil)
		if err != nil {
			return made, fmt.Errorf("populate %s: %w", name, err)
		}
		made = append(made, ref)
	}
	return made, nil
}

func (s *Sim) has(realm, name string) bool {
	r := s.realm(realm)
	if r == nil {
		return false
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	t := r.tables[name]
	return t != nil && len(t.live) > 0
}

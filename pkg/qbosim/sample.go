package qbosim

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
)

var (
	firstNames = [...]string{"Ada", "Amy", "Bill", "Cool", "Diego", "Freeman", "Geeta", "Jeff", "Kate", "Mark", "Paulsen", "Rondonuwu", "Sonnen", "Travis", "Zoë"}
	lastNames  = [...]string{"Barrett", "Chin", "Cho", "Hopkins", "Kalapala", "Lauterbach", "Lok", "O'Neil", "Melton", "Rodriguez", "Shah", "Upton", "Waldron", "Whitehead"}
	trades     = [...]string{"Bird Sanctuary", "Freight & Sons", "Landscapes", "Cycles", "Pool Supplies", "Windows", "Bakery", "Print Shop"}
	services   = [...]string{"Design", "Gardening", "Installation", "Lighting", "Maintenance & Repair", "Pest Control", "Rocks", "Sprinkler Heads", "Trimming"}
	cities     = [...]string{"Bayshore", "Middlefield", "Menlo Park", "Palo Alto", "South Orange"}
)

// sampler makes up records that look like a small company's books. It does
// not keep the books: a payment leaves its invoice's balance alone.
type sampler struct {
	*rand.Rand
	realm  *realm // its references; locked by the caller
	custom int    // custom fields of a record
}

// record makes up the fields of a new record.
func (s sampler) record(info entity.Info, id string) fields {
	f := s.fieldsOf(info, id)
	if s.custom > 0 && hasCustomFields(info.Name) {
		f["CustomField"] = s.customFields(s.custom)
	}
	return f
}

func (s sampler) fieldsOf(info entity.Info, id string) fields {
	switch info.Name {
	case "Customer":
		return s.customer(id)
	case "Vendor":
		return s.vendor(id)
	case "Item":
		return s.item(id)
	case "Invoice":
		return s.invoice(id)
	case "Payment":
		return s.payment()
	case "Bill":
		return s.bill(id)
	case "JournalEntry":
		return s.journalEntry(id)
	case "TimeActivity":
		return s.timeActivity()
	}
	if f := s.unannounced(info.Name, id); f != nil {
		return f
	}
	if info.List {
		name := info.Name + " " + id
		return fields{"Name": name, "FullyQualifiedName": name, "Active": true}
	}
	return fields{"DocNumber": id, "TxnDate": s.date(), "TotalAmt": s.amount(), "PrivateNote": ""}
}

// change makes up a change of an existing record.
func (s sampler) change(info entity.Info, f fields) {
	if f.inactive() {
		f.setActive(true)
		return
	}
	switch info.Name {
	case exchangeRate:
		f["Rate"] = s.amount()
		return
	case "CompanyInfo":
		f["CompanyAddr"] = s.address()
		return
	case "Attachable":
		f["Note"] = "Checked " + s.number()
		return
	case "Customer", "Vendor":
		f["PrimaryPhone"] = s.phone()
		if s.IntN(2) == 0 {
			f["BillAddr"] = s.address()
		}
	case "Item":
		f["UnitPrice"] = s.amount()
	case "Invoice":
		s.invoiceLines(f)
	case "Payment":
		f["PaymentRefNum"] = s.number()
	case "Bill":
		s.billLines(f)
	case "JournalEntry":
		s.journalLines(f)
	case "TimeActivity":
		f["Hours"], f["Minutes"] = quantity(s.IntN(9)), quantity(15*s.IntN(4))
	}
	if !info.List {
		f["PrivateNote"] = "Checked " + s.number()
	}
}

func (s sampler) customer(id string) fields {
	f := s.person(id)
	f["Taxable"], f["Job"], f["BillWithParent"] = s.IntN(2) == 0, false, false
	f["PreferredDeliveryMethod"] = "Print"
	return f
}

func (s sampler) vendor(id string) fields {
	f := s.person(id)
	f["Vendor1099"], f["AcctNum"] = s.IntN(4) == 0, s.number()
	return f
}

func (s sampler) person(id string) fields {
	given, family := pick(s.Rand, firstNames[:]), pick(s.Rand, lastNames[:])
	company := family + " " + pick(s.Rand, trades[:])
	name := company + " " + id // names are unique in a list
	return fields{
		"DisplayName": name, "FullyQualifiedName": name, "PrintOnCheckName": company, "CompanyName": company,
		"GivenName": given, "FamilyName": family, "Active": true, "Balance": money(0),
		"PrimaryEmailAddr": map[string]any{"Address": fmt.Sprintf("books+%s@example.com", id)},
		"PrimaryPhone":     s.phone(), "BillAddr": s.address(), "CurrencyRef": dollars(),
	}
}

func (s sampler) item(id string) fields {
	name := pick(s.Rand, services[:]) + " " + id
	return fields{
		"Name": name, "FullyQualifiedName": name, "Active": true, "Type": "Service", "Taxable": s.IntN(2) == 0,
		"UnitPrice": s.amount(), "TrackQtyOnHand": false,
		"IncomeAccountRef": reference("79", "Sales of Product Income"),
	}
}

func (s sampler) invoice(id string) fields {
	f := fields{
		"DocNumber": "1" + id, "TxnDate": s.date(), "DueDate": s.date(), "CustomerRef": s.reference("Customer"),
		"EmailStatus": "NotSet", "PrintStatus": "NeedToPrint", "CurrencyRef": dollars(), "PrivateNote": "",
		"BillEmail": map[string]any{"Address": "books@example.com"},
	}
	s.invoiceLines(f)
	return f
}

func (s sampler) invoiceLines(f fields) {
	var lines []any
	var total money
	for n := range 1 + s.IntN(3) {
		quantityOf, price := 1+s.IntN(8), s.amount()
		amount := price * money(quantityOf)
		total += amount
		lines = append(lines, map[string]any{
			"Id": fmt.Sprint(n + 1), "LineNum": quantity(n + 1), "Amount": amount, "Description": pick(s.Rand, services[:]),
			"DetailType": "SalesItemLineDetail",
			"SalesItemLineDetail": map[string]any{
				"ItemRef": s.reference("Item"), "Qty": quantity(quantityOf), "UnitPrice": price,
				"TaxCodeRef": map[string]any{"value": "NON"},
			},
		})
	}
	f["Line"] = append(lines, map[string]any{
		"Amount": total, "DetailType": "SubTotalLineDetail", "SubTotalLineDetail": map[string]any{},
	})
	f["TotalAmt"], f["Balance"] = total, total
}

func (s sampler) payment() fields {
	amount := s.amount()
	return fields{
		"TxnDate": s.date(), "CustomerRef": s.reference("Customer"), "TotalAmt": amount, "UnappliedAmt": money(0),
		"PaymentRefNum": s.number(), "ProcessPayment": false, "CurrencyRef": dollars(), "PrivateNote": "",
		"DepositToAccountRef": map[string]any{"value": "4"},
		"Line": []any{map[string]any{
			"Amount":    amount,
			"LinkedTxn": []any{map[string]any{"TxnId": s.id("Invoice"), "TxnType": "Invoice"}},
		}},
	}
}

func (s sampler) bill(id string) fields {
	f := fields{
		"DocNumber": "B-" + id, "TxnDate": s.date(), "DueDate": s.date(), "VendorRef": s.reference("Vendor"),
		"APAccountRef": reference("33", "Accounts Payable (A/P)"), "CurrencyRef": dollars(), "PrivateNote": "",
	}
	s.billLines(f)
	return f
}

func (s sampler) billLines(f fields) {
	amount := s.amount()
	f["Line"] = []any{map[string]any{
		"Id": "1", "LineNum": quantity(1), "Amount": amount, "DetailType": "AccountBasedExpenseLineDetail",
		"AccountBasedExpenseLineDetail": map[string]any{
			"AccountRef": reference("7", "Advertising"), "BillableStatus": "NotBillable",
		},
	}}
	f["TotalAmt"], f["Balance"] = amount, amount
}

func (s sampler) journalEntry(id string) fields {
	f := fields{"DocNumber": "J-" + id, "TxnDate": s.date(), "Adjustment": false, "CurrencyRef": dollars(), "PrivateNote": ""}
	s.journalLines(f)
	return f
}

func (s sampler) journalLines(f fields) {
	amount := s.amount()
	line := func(id, posting, account, name string) any {
		return map[string]any{
			"Id": id, "Amount": amount, "DetailType": "JournalEntryLineDetail",
			"JournalEntryLineDetail": map[string]any{"PostingType": posting, "AccountRef": reference(account, name)},
		}
	}
	f["Line"] = []any{line("0", "Debit", "39", "Opening Bal Equity"), line("1", "Credit", "44", "Notes Payable")}
	f["TotalAmt"] = amount
}

func (s sampler) timeActivity() fields {
	return fields{
		"TxnDate": s.date(), "NameOf": "Vendor", "VendorRef": s.reference("Vendor"), "CustomerRef": s.reference("Customer"),
		"ItemRef": s.reference("Item"), "BillableStatus": "Billable", "Taxable": false, "HourlyRate": s.amount(),
		"Hours": quantity(s.IntN(9)), "Minutes": quantity(15 * s.IntN(4)), "PrivateNote": "",
	}
}

func (s sampler) phone() map[string]any {
	return map[string]any{"FreeFormNumber": fmt.Sprintf("(415) 555-%04d", s.IntN(10000))}
}

func (s sampler) address() map[string]any {
	return map[string]any{
		"Line1": s.number() + " Main St.", "City": pick(s.Rand, cities[:]),
		"CountrySubDivisionCode": "CA", "PostalCode": fmt.Sprintf("94%03d", s.IntN(1000)),
	}
}

func (s sampler) amount() money  { return money(100 + s.IntN(50000)) }
func (s sampler) number() string { return fmt.Sprint(1 + s.IntN(9999)) }

// date is a transaction's; it does not come from the clock, or the books would
// differ from day to day.
func (s sampler) date() string {
	return time.Date(2026, 1, 1+s.IntN(300), 0, 0, 0, 0, time.UTC).Format(time.DateOnly)
}

// id is that of a live record, "1" if there is none.
func (s sampler) id(name string) string {
	if t := s.realm.tables[name]; t != nil && len(t.live) > 0 {
		return pick(s.Rand, t.live).id
	}
	return "1"
}

func (s sampler) reference(name string) map[string]any {
	t := s.realm.tables[name]
	if t == nil || len(t.live) == 0 {
		return reference("1", name+" 1")
	}
	rec := pick(s.Rand, t.live)
	var names struct{ DisplayName, Name string }
	if err := json.Unmarshal(rec.latest().Raw, &names); err != nil {
		return reference(rec.id, name+" "+rec.id)
	}
	return reference(rec.id, names.DisplayName+names.Name)
}

func dollars() map[string]any { return reference("USD", "United States Dollar") }

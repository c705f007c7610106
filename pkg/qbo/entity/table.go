package entity

import "strings"

// Operations as the legacy format spells them.
const (
	create  = "Create"
	update  = "Update"
	remove  = "Delete"
	merge   = "Merge"
	void    = "Void"
	emailed = "Emailed"
)

// table is sorted by name. It is never written to.
//
// Sources:
//   - Operations: Intuit's webhook page (developer.intuit.com, "configure-webhooks",
//     29 entities) and the 108 event types of the portal's subscription page as
//     ballerina-platform/asyncapi-triggers lists them (31 entities: the page's, plus
//     ChangeOrder, CompanyCurrency, and Delete for Currency).
//   - CDC: the 24 entities that singer-io/tap-quickbooks asks for in production.
//     Intuit says "all API entities except JournalCode, TaxAgency, TimeActivity,
//     TaxCode, TaxRate" (page "change-data-capture"), but whether that holds for
//     Preferences, CompanyCurrency, ChangeOrder and Attachable was never seen, and
//     one refused name would fail the call for all.
//   - List: API reference of each entity (Active: "Boolean, filterable"); TaxCode,
//     TaxRate, Term and PaymentMethod are queried by `Active IN (true, false)` in
//     several public integrations. Budget is by singer-io/tap-quickbooks; of Budget and
//     CustomerType ComponentOne's tables of QuickBooks Online call Active filterable.
//   - Query: the API reference; true also where no page was seen, for a refusal by
//     the API is visible and a wrong false is not.
var table = [...]Info{
	{Name: "Account", List: true, CDC: true, Query: true, Operations: []string{create, update, remove, merge}},
	{Name: "Attachable", Query: true},
	{Name: "Bill", CDC: true, Query: true, Operations: []string{create, update, remove}},
	{Name: "BillPayment", CDC: true, Query: true, Operations: []string{create, update, remove, void}},
	{Name: "Budget", List: true, CDC: true, Query: true, Operations: []string{create, update}},
	// ChangeOrder is on the portal only; no page of the API reference describes it.
	{Name: "ChangeOrder", Query: true, Operations: []string{create, update, remove}},
	{Name: "Class", List: true, CDC: true, Query: true, Operations: []string{create, update, remove, merge}},
	{Name: "CompanyCurrency", List: true, Query: true, Operations: []string{create, update, remove}},
	{Name: "CompanyInfo", Query: true},
	// CreditCardPayment comes under the name CreditCardPaymentTxn in every answer.
	{Name: "CreditCardPayment", Query: true},
	{Name: "CreditMemo", CDC: true, Query: true, Operations: []string{create, update, remove, void, emailed}},
	// Currency has webhooks, but the API reference knows only CompanyCurrency.
	{Name: "Currency", Query: true, Operations: []string{create, update, remove}},
	{Name: "Customer", List: true, CDC: true, Query: true, Operations: []string{create, update, remove, merge}},
	{Name: "CustomerType", List: true, Query: true},
	{Name: "Department", List: true, CDC: true, Query: true, Operations: []string{create, update, merge}},
	{Name: "Deposit", CDC: true, Query: true, Operations: []string{create, update, remove}},
	{Name: "Employee", List: true, CDC: true, Query: true, Operations: []string{create, update, remove, merge}},
	{Name: "Estimate", CDC: true, Query: true, Operations: []string{create, update, remove, emailed}},
	// ExchangeRate has no Id: it is read by currency and date, and none can be deleted.
	{Name: "ExchangeRate", Query: true, Lasting: true},
	{Name: "InventoryAdjustment", Query: true},
	{Name: "Invoice", CDC: true, Query: true, Operations: []string{create, update, remove, void, emailed}},
	{Name: "Item", List: true, CDC: true, Query: true, Operations: []string{create, update, remove, merge}},
	{Name: "JournalCode", Query: true, Operations: []string{create, update}},
	{Name: "JournalEntry", CDC: true, Query: true, Operations: []string{create, update, remove}},
	{Name: "Payment", CDC: true, Query: true, Operations: []string{create, update, remove, void, emailed}},
	{Name: "PaymentMethod", List: true, CDC: true, Query: true, Operations: []string{create, update, merge}},
	{Name: "Preferences", Query: true, Operations: []string{update}},
	{Name: "Purchase", CDC: true, Query: true, Operations: []string{create, update, remove, void}},
	{Name: "PurchaseOrder", CDC: true, Query: true, Operations: []string{create, update, remove, emailed}},
	// RecurringTransaction wraps the transaction it repeats: {"Bill": {"Id": ...}}.
	{Name: "RecurringTransaction", Query: true},
	{Name: "RefundReceipt", CDC: true, Query: true, Operations: []string{create, update, remove, void, emailed}},
	{Name: "ReimburseCharge", Query: true},
	{Name: "SalesReceipt", CDC: true, Query: true, Operations: []string{create, update, remove, void, emailed}},
	{Name: "TaxAgency", Query: true, Operations: []string{create, update}},
	{Name: "TaxCode", List: true, Query: true},
	{Name: "TaxPayment", Query: true},
	{Name: "TaxRate", List: true, Query: true},
	// TaxService only creates tax codes: a Query answers 4001 "Metadata not found
	// for Entity" (ruckus/quickbooks-ruby#628).
	{Name: "TaxService"},
	{Name: "Term", List: true, CDC: true, Query: true, Operations: []string{create, update}},
	{Name: "TimeActivity", Query: true, Operations: []string{create, update, remove}},
	{Name: "Transfer", CDC: true, Query: true, Operations: []string{create, update, remove, void}},
	{Name: "Vendor", List: true, CDC: true, Query: true, Operations: []string{create, update, remove, merge}},
	{Name: "VendorCredit", CDC: true, Query: true, Operations: []string{create, update, remove}},
}

// queryOnly is Intuit's list of entities that CDC does not serve (page
// "change-data-capture"). JournalCode, TaxAgency and TimeActivity have webhooks.
var queryOnly = []string{"JournalCode", "TaxAgency", "TaxCode", "TaxRate", "TimeActivity"}

// aliases are names of an entity in answers that differ from its name in a Query.
var aliases = map[string]string{"CreditCardPaymentTxn": "CreditCardPayment"}

// rows finds the row of a name as the API spells it and in lower case. It is
// never written to.
var rows = func() map[string]int {
	rows := make(map[string]int, 2*(len(table)+len(aliases)))
	for i, info := range table {
		rows[info.Name] = i
		rows[strings.ToLower(info.Name)] = i
	}
	for alias, name := range aliases {
		rows[alias] = rows[name]
		rows[strings.ToLower(alias)] = rows[name]
	}
	return rows
}()

func row(name string) (i int, ok bool) {
	if i, ok = rows[name]; !ok {
		i, ok = rows[strings.ToLower(name)]
	}
	return i, ok
}

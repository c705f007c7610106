// Package entity is the table of QuickBooks entities: how the API spells each
// name, which webhook operations Intuit offers for it, and by which calls it
// can be read.
//
// The table holds what Intuit documents or what was seen to work; table.go says
// for each fact where it comes from. An entity that is not in the table is not
// an error: Intuit adds entities, and a feed keeps an unknown name as received.
//
// The package has no dependencies and reads nothing; all answers are copies.
package entity

import "slices"

// Info says what QuickBooks offers for one entity.
type Info struct {
	// Name is the entity as the API spells it ("CreditMemo"). A Query is case
	// sensitive in it.
	Name string
	// List says that the entity is a name list with an Active flag that Query
	// can filter by. Deleting one makes it inactive, which CDC and Query show as
	// an update; a Query without `Active IN (true, false)` leaves it out.
	List bool
	// CDC says that the entity may be named in a CDC call. One wrong name fails
	// the whole call, so only entities seen to work are marked.
	CDC bool
	// Query says that `SELECT * FROM Name` may be asked.
	Query bool
	// Lasting says that a record never ends, so that an answer without it is no sign of
	// a deletion: QuickBooks has no way to delete one, and may show the newest only.
	Lasting bool
	// Operations are the operations Intuit's portal offers webhooks for, as the
	// legacy format spells them ("Create"); empty means no webhooks.
	Operations []string
}

// All returns the table sorted by name. It is the caller's to change.
func All() []Info {
	all := make([]Info, len(table))
	for i, info := range table {
		info.Operations = slices.Clone(info.Operations)
		all[i] = info
	}
	return all
}

// Lookup finds an entity by its name in any case: "creditmemo", as CloudEvents
// write it, finds CreditMemo. A name that answers use instead of it does as well:
// CreditCardPaymentTxn is CreditCardPayment.
func Lookup(name string) (Info, bool) {
	i, ok := row(name)
	if !ok {
		return Info{}, false
	}
	info := table[i]
	info.Operations = slices.Clone(info.Operations)
	return info, true
}

// Canonical returns the name as the API spells it, or the name as it was given
// where the table does not hold it. It does not allocate for a name as the API
// or as CloudEvents spell it.
func Canonical(name string) string {
	if i, ok := row(name); ok {
		return table[i].Name
	}
	return name
}

// CDC returns the sorted names of the entities a CDC call may name.
func CDC() []string {
	return names(func(i Info) bool { return i.CDC })
}

// QueryOnly returns the sorted names of the entities that Intuit leaves out of
// CDC by its own list, so that only Query finds their changes. Deletions of
// these show in no call: they are found by comparing ids.
func QueryOnly() []string { return slices.Clone(queryOnly) }

// Queryable returns the sorted names of the entities a Query may ask for.
func Queryable() []string {
	return names(func(i Info) bool { return i.Query })
}

func names(want func(Info) bool) []string {
	var found []string
	for _, info := range table {
		if want(info) {
			found = append(found, info.Name)
		}
	}
	return found
}

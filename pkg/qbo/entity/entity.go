// Package entity is the table of QuickBooks entities.
package entity

// Info says what QuickBooks offers for one entity.
type Info struct {
	Name       string
	List       bool
	CDC        bool
	Query      bool
	Operations []string
}

// All returns a copy of the table, sorted by name.
func All() []Info { return nil }

// Lookup finds an entity by its name in any case.
func Lookup(name string) (Info, bool) { return Info{}, false }

// CDC returns the sorted names of the entities that are scanned by CDC.
func CDC() []string { return nil }

// QueryOnly returns the sorted names of the entities that are scanned by Query because CDC leaves them out.
func QueryOnly() []string { return nil }

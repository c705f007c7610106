package qbosim

import "time"

// Ref is one record: ids are unique per entity and realm only.
type Ref struct {
	Realm  string `json:"realm"`
	Entity string `json:"entity"`
	ID     string `json:"id"`
}

// State is a record as one write left it.
type State struct {
	// Version is LastUpdatedTime in seconds × 10⁶ + SyncToken; for a deleted
	// record + 999,999.
	Version int64 `json:"version"`
	// SyncToken is "" once the record is deleted.
	SyncToken string `json:"syncToken,omitempty"`
	// LastUpdated has whole seconds.
	LastUpdated time.Time `json:"lastUpdated"`
	// Deleted records are gone: CDC alone still names them.
	Deleted bool `json:"deleted,omitempty"`
	// Inactive is Active=false of a name list.
	Inactive bool `json:"inactive,omitempty"`
	// Operation is what was done, in webhook words: Create, Update, Delete,
	// Merge, Void, Emailed.
	Operation string `json:"operation"`
	// Raw is the JSON that the API shows: the record, or CDC's deleted object.
	// It must not be written to.
	Raw []byte `json:"raw"`
}

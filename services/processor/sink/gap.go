package sink

import "time"

// Gap is a change that a scan found before any webhook told of it, with why.
type Gap struct {
	Realm   string `json:"realm"`
	Entity  string `json:"entity"`
	ID      string `json:"id"`
	Version int64  `json:"version"`
	// Found is when the scan found it, by our clock; Event is when it happened, by
	// Intuit's, zero if that is not known.
	Found time.Time `json:"found"`
	Event time.Time `json:"event,omitzero"`
	// Operation is create, update or delete, Source is cdc or query.
	Operation string `json:"operation"`
	Source    string `json:"source"`
	Verdict   string `json:"verdict"`
	// Late is when its webhook came after all; zero if it did not.
	Late time.Time `json:"late,omitzero"`
}

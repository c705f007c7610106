package qbosim

import (
	"strconv"
	"time"
)

const (
	versionScale     = 1_000_000
	tombstoneVersion = versionScale - 1
)

// Ref is one record: ids are unique per entity and realm only.
type Ref struct {
	Realm  string `json:"realm"`
	Entity string `json:"entity"`
	ID     string `json:"id"`
}

// State is a record as one write left it. Several states of a record may bear
// one Version; the last one counts.
type State struct {
	// Version is LastUpdatedTime in seconds × 10⁶ + SyncToken; for a deleted
	// record + 999,999.
	Version int64 `json:"version"`
	// Revision counts the states of the record, from 1. It alone orders them.
	Revision int `json:"revision"`
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
	// Derived states follow from a change of another record: a balance or a
	// quantity moved, SyncToken did not.
	Derived bool `json:"derived,omitempty"`
	// Raw is the JSON that the API shows: the record, or CDC's deleted object as
	// it is without Faults.BareDeletes. It must not be written to.
	Raw []byte `json:"raw"`
}

// Truth is the latest state of all records of a realm, deleted ones included,
// whatever the API shows at the moment.
func (s *Sim) Truth(realm string) map[Ref]State {
	r := s.realm(realm)
	if r == nil {
		return nil
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	truth := map[Ref]State{}
	for name, t := range r.tables {
		for _, rec := range t.order {
			truth[Ref{Realm: realm, Entity: name, ID: rec.id}] = rec.latest().State
		}
	}
	return truth
}

// History is every state the record was ever in, oldest first.
func (s *Sim) History(ref Ref) []State {
	r := s.realm(ref.Realm)
	if r == nil {
		return nil
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	t := r.tables[ref.Entity]
	if t == nil || t.records[ref.ID] == nil {
		return nil
	}
	versions := t.records[ref.ID].versions
	states := make([]State, len(versions))
	for i, v := range versions {
		states[i] = v.State
	}
	return states
}

func versionOf(at time.Time, syncToken string, deleted bool) int64 {
	second := at.Unix() * versionScale
	if deleted {
		return second + tombstoneVersion
	}
	token, _ := strconv.ParseInt(syncToken, 10, 64) // ours: always a number
	return second + min(token, tombstoneVersion-1)
}

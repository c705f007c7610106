// Package sink is what the sinks share: the form of a stored change, and what a
// reader of a sink gets back.
//
// A sink keeps, for each (realm, entity, id), the change with the highest
// version; the document of a change is kept as QuickBooks returned it.
//
// It does not write anything; the sinks are its sub-packages, the contract they
// keep is processor.Sink, checked by package sinktest.
package sink

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// Ref names one entity.
type Ref struct {
	Realm  string `json:"realm"`
	Entity string `json:"entity"`
	ID     string `json:"id"`
}

// Key is the idempotency key of the entity at a version: realm/entity/id/version.
// A change that is delivered again after a crash has the same one.
func (r Ref) Key(version int64) string {
	return fmt.Sprintf("%s/%s/%s/%d", r.Realm, r.Entity, r.ID, version)
}

// Version is which version a sink holds of one entity.
type Version struct {
	Ref
	Version int64
}

// Position is how far a sink is: what it tells of itself so that a loss shows.
type Position struct {
	// ID names the store that the sink writes to: another one has another.
	ID string
	// Server names the process that keeps it, since its start. Another one may be a
	// standby that had not got everything.
	Server string
	// N is larger than at any look before, unless the store went back to an earlier state.
	N int64
}

// Row is the newest a sink holds of one entity.
type Row struct {
	Version int64
	Deleted bool
	// Learned is how the version was learned: see [Learned].
	Learned string
}

// Record is a change as a sink stores it, and one line of a JSON Lines file.
type Record struct {
	// Key is the idempotency key: a change delivered twice has the same one.
	Key string `json:"key"`
	Ref
	// Version orders the changes of one entity; see Change.version.
	Version int64 `json:"version"`
	// SyncToken is empty on a tombstone.
	SyncToken   string    `json:"sync_token,omitempty"`
	LastUpdated time.Time `json:"last_updated"`
	Deleted     bool      `json:"deleted"`
	// Operation is what Intuit says was done: create, update, delete, merge,
	// void, emailed; unspecified for one this version does not know.
	Operation string    `json:"operation"`
	Learned   string    `json:"learned"`
	LearnedAt time.Time `json:"learned_at"`
	// MergedInto is the id that the entity was merged into.
	MergedInto string `json:"merged_into,omitempty"`
	EventID    string `json:"event_id,omitempty"`
	// Document is the entity as the API returned it; nil on a tombstone.
	Document json.RawMessage `json:"document,omitempty"`
}

// Row is the part of r that a snapshot keeps.
func (r Record) Row() Row { return Row{Version: r.Version, Deleted: r.Deleted, Learned: r.Learned} }

// RecordOf is c as it is stored. The record shares the document's bytes.
func RecordOf(c *ledgerfeedv1.Change) Record {
	ref := RefOf(c)
	return Record{
		Key:         ref.Key(c.GetVersion()),
		Ref:         ref,
		Version:     c.GetVersion(),
		SyncToken:   c.GetSyncToken(),
		LastUpdated: c.GetLastUpdated().AsTime(),
		Deleted:     c.GetDeleted(),
		Operation:   Operation(c.GetOperation()),
		Learned:     Learned(c.GetSource()),
		LearnedAt:   c.GetLearnedAt().AsTime(),
		MergedInto:  c.GetMergedInto(),
		EventID:     c.GetEventId(),
		Document:    c.GetDocument(),
	}
}

// RefOf names the entity of c.
func RefOf(c *ledgerfeedv1.Change) Ref {
	return Ref{Realm: c.GetRealmId(), Entity: c.GetEntity(), ID: c.GetEntityId()}
}

// Learned is the source in one word: webhook, cdc, query, replay.
func Learned(s ledgerfeedv1.Source) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "SOURCE_"))
}

// Operation is the operation in one word: create, update, delete, merge, void,
// emailed, unspecified.
func Operation(o ledgerfeedv1.Operation) string {
	return strings.ToLower(strings.TrimPrefix(o.String(), "OPERATION_"))
}

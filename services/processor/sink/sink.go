// Package sink is what the sinks share: the form of a stored change, and what a
// reader of a sink gets back.
//
// A sink keeps, for each (realm, entity, id), the newest change (see
// [Record.Supersedes]); the document of a change is kept as QuickBooks returned it.
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

// Key is the entity at a version: realm/entity/id/version. See [Record.Key].
func (r Ref) Key(version int64) string {
	return fmt.Sprintf("%s/%s/%s/%d", r.Realm, r.Entity, r.ID, version)
}

// Version is which version a sink holds of one entity.
type Version struct {
	Ref
	Version int64
	// ContentHash is that of the document; empty if the sink does not know it.
	ContentHash string
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
	// ContentHash is that of the document; empty on a tombstone, and if it was
	// written by a version that stored none.
	ContentHash string
	// ReadAt is when QuickBooks showed it, by Intuit's clock; zero if that is not known.
	ReadAt time.Time
}

// Record is a change as a sink stores it, and one line of a JSON Lines file.
type Record struct {
	// Key is the idempotency key: realm/entity/id/version, then /content_hash where
	// there is a document, and /restored/event_id on a restored record. A change
	// delivered twice has the same one; another document of the same version has another.
	Key string `json:"key"`
	Ref
	// Version orders the changes of one entity; see Change.version.
	Version int64 `json:"version"`
	// ContentHash tells documents of one version apart; see Change.content_hash.
	ContentHash string `json:"content_hash,omitempty"`
	// ReadAt orders documents of one version: when QuickBooks showed this one.
	ReadAt time.Time `json:"read_at,omitzero"`
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
func (r Record) Row() Row {
	return Row{Version: r.Version, Deleted: r.Deleted, Learned: r.Learned, ContentHash: r.ContentHash, ReadAt: r.ReadAt}
}

// Supersedes reports whether r replaces what a sink holds of the record: a higher
// version does; so does, at the same version, a replay and another document that
// was not read earlier; and a restored record replaces any tombstone that does not
// rest on a later read.
func (r Record) Supersedes(held Row) bool {
	later := !r.ReadAt.Before(held.ReadAt)
	switch {
	case r.Version > held.Version:
		return true
	case held.Deleted && r.Learned == learnedRestored:
		return later
	case r.Version < held.Version:
		return false
	}
	return r.Learned == learnedReplay || r.ContentHash != held.ContentHash && later
}

var (
	learnedReplay   = Learned(ledgerfeedv1.Source_SOURCE_REPLAY)
	learnedRestored = Learned(ledgerfeedv1.Source_SOURCE_RESTORED)
)

// KeyOf is the idempotency key of c: see [Record.Key].
func KeyOf(c *ledgerfeedv1.Change) string {
	key := RefOf(c).Key(c.GetVersion())
	if hash := c.GetContentHash(); hash != "" {
		key += "/" + hash
	}
	if c.GetSource() == ledgerfeedv1.Source_SOURCE_RESTORED {
		key += "/restored/" + c.GetEventId()
	}
	return key
}

// RecordOf is c as it is stored. The record shares the document's bytes.
func RecordOf(c *ledgerfeedv1.Change) Record {
	r := Record{
		Key:         KeyOf(c),
		Ref:         RefOf(c),
		Version:     c.GetVersion(),
		ContentHash: c.GetContentHash(),
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
	if c.GetReadAt() != nil {
		r.ReadAt = c.GetReadAt().AsTime()
	}
	return r
}

// RefOf names the entity of c.
func RefOf(c *ledgerfeedv1.Change) Ref {
	return Ref{Realm: c.GetRealmId(), Entity: c.GetEntity(), ID: c.GetEntityId()}
}

// Learned is the source in one word: webhook, cdc, query, replay, restored.
func Learned(s ledgerfeedv1.Source) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "SOURCE_"))
}

// Operation is the operation in one word: create, update, delete, merge, void,
// emailed, unspecified.
func Operation(o ledgerfeedv1.Operation) string {
	return strings.ToLower(strings.TrimPrefix(o.String(), "OPERATION_"))
}

package webhook

import (
	"encoding/json"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// Type is the CloudEvents type of a change.
const Type = "com.ledgerfeed.change.v1"

// Event is a change as the endpoint gets it: a CloudEvent whose data is the
// record as QuickBooks returned it, absent on a tombstone.
type Event struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`     // the idempotency key
	Source          string          `json:"source"` // /realms/REALM
	Type            string          `json:"type"`
	Subject         string          `json:"subject"` // ENTITY/ID
	Time            time.Time       `json:"time"`    // when QuickBooks says it changed
	DataContentType string          `json:"datacontenttype,omitempty"`
	Realm           string          `json:"realm"`
	Entity          string          `json:"entity"`
	EntityID        string          `json:"entityid"`
	Version         string          `json:"entityversion"`         // an integer below 2^53; see sink.Record.Supersedes for which change to take
	ContentHash     string          `json:"contenthash,omitempty"` // tells documents of one version apart
	ReadAt          time.Time       `json:"readat,omitzero"`       // when QuickBooks showed it: orders documents of one version
	Operation       string          `json:"operation"`             // create, update, delete, merge, void, emailed or unspecified
	Deleted         bool            `json:"deleted"`
	SyncToken       string          `json:"synctoken,omitempty"`
	MergedInto      string          `json:"mergedinto,omitempty"`
	Learned         string          `json:"learned"` // webhook, cdc, query, replay or restored: which replaces a tombstone of any version
	LearnedAt       time.Time       `json:"learnedat"`
	EventID         string          `json:"eventid,omitempty"` // Intuit's, for tracing
	Data            json.RawMessage `json:"data,omitempty"`
}

var errNoJSON = errors.New("the document is not JSON")

func eventOf(c *ledgerfeedv1.Change, name string) (Event, error) {
	r := sink.RecordOf(c)
	if len(r.Document) > 0 && !json.Valid(r.Document) {
		return Event{}, errNoJSON
	}
	e := Event{
		SpecVersion: "1.0", ID: key(c, name), Source: "/realms/" + url.PathEscape(r.Realm), Type: Type,
		Subject: escape(r.Entity) + "/" + escape(r.ID), Time: r.LastUpdated,
		Realm: r.Realm, Entity: r.Entity, EntityID: r.ID, Version: strconv.FormatInt(r.Version, 10), ContentHash: r.ContentHash, ReadAt: r.ReadAt,
		Operation: r.Operation, Deleted: r.Deleted, SyncToken: r.SyncToken, MergedInto: r.MergedInto,
		Learned: r.Learned, LearnedAt: r.LearnedAt, EventID: r.EventID, Data: r.Document,
	}
	if len(e.Data) > 0 {
		e.DataContentType = "application/json"
	}
	return e, nil
}

// key is the idempotency key, escaped so that it fits into a header and its parts
// stay apart.
func key(c *ledgerfeedv1.Change, name string) string {
	parts := []string{escape(c.GetRealmId()), escape(c.GetEntity()), escape(c.GetEntityId()), strconv.FormatInt(c.GetVersion(), 10)}
	if hash := c.GetContentHash(); hash != "" {
		parts = append(parts, hash)
	}
	if c.GetSource() == ledgerfeedv1.Source_SOURCE_RESTORED {
		parts = append(parts, "restored", escape(c.GetEventId()))
	}
	return strings.Join(append(parts, escape(name)), "/")
}

func escape(s string) string { return url.PathEscape(s) }

// Record is the change of e, for receivers that store records as the other sinks do.
func (e Event) Record() (sink.Record, error) {
	version, err := strconv.ParseInt(e.Version, 10, 64)
	ref := sink.Ref{Realm: e.Realm, Entity: e.Entity, ID: e.EntityID}
	key := ref.Key(version)
	if e.ContentHash != "" {
		key += "/" + e.ContentHash
	}
	return sink.Record{
		Key: key, Ref: ref, Version: version, ContentHash: e.ContentHash, ReadAt: e.ReadAt, SyncToken: e.SyncToken, LastUpdated: e.Time, Deleted: e.Deleted,
		Operation: e.Operation, Learned: e.Learned, LearnedAt: e.LearnedAt, MergedInto: e.MergedInto, EventID: e.EventID, Document: e.Data,
	}, err
}

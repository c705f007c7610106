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
	Version         string          `json:"entityversion"` // an integer below 2^53; take a change only if it is higher
	Operation       string          `json:"operation"`     // create, update, delete, merge, void, emailed or unspecified
	Deleted         bool            `json:"deleted"`
	SyncToken       string          `json:"synctoken,omitempty"`
	MergedInto      string          `json:"mergedinto,omitempty"`
	Learned         string          `json:"learned"` // webhook, cdc, query or replay
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
		SpecVersion: "1.0", ID: key(r.Ref, r.Version, name), Source: "/realms/" + url.PathEscape(r.Realm), Type: Type,
		Subject: escape(r.Entity) + "/" + escape(r.ID), Time: r.LastUpdated,
		Realm: r.Realm, Entity: r.Entity, EntityID: r.ID, Version: strconv.FormatInt(r.Version, 10),
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
func key(r sink.Ref, version int64, name string) string {
	return strings.Join([]string{escape(r.Realm), escape(r.Entity), escape(r.ID), strconv.FormatInt(version, 10), escape(name)}, "/")
}

func escape(s string) string { return url.PathEscape(s) }

// Record is the change of e, for receivers that store records as the other sinks do.
func (e Event) Record() (sink.Record, error) {
	version, err := strconv.ParseInt(e.Version, 10, 64)
	ref := sink.Ref{Realm: e.Realm, Entity: e.Entity, ID: e.EntityID}
	return sink.Record{
		Key: ref.Key(version), Ref: ref, Version: version, SyncToken: e.SyncToken, LastUpdated: e.Time, Deleted: e.Deleted,
		Operation: e.Operation, Learned: e.Learned, LearnedAt: e.LearnedAt, MergedInto: e.MergedInto, EventID: e.EventID, Document: e.Data,
	}, err
}

package webhook

import (
	"time"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// Format is the shape of a notification.
type Format string

const (
	// CloudEvents is the present format: an array of events, which may belong to
	// several realms.
	CloudEvents Format = "cloudevents"
	// Legacy is the format until 2026-07-31: an object with eventNotifications,
	// each of one realm.
	Legacy Format = "legacy"
)

// Notification is what one POST carried, in the order of the body.
type Notification struct {
	Format   Format
	Events   []Event
	Rejected []Rejected
	// Unlisted counts the items that are no events beyond the first 10,000, which
	// are in Rejected.
	Unlisted int
}

// Event is one entity that changed. RealmID, Entity and EntityID are never
// empty, hold no control characters and are at most 128 bytes long each.
type Event struct {
	// ID is the CloudEvents id, the same on each redelivery; where Intuit sends
	// none (the legacy format), a hash of the fields below, so that a repeated
	// event has the same ID. Two legacy events of one second may share it.
	ID      string
	RealmID string
	// Entity as the API spells it ("CreditMemo"); an unknown one as received.
	// One that is not of the qbo namespace keeps its namespace ("payroll.check").
	Entity   string
	EntityID string
	// Operation is OPERATION_UNSPECIFIED for one this package does not know or
	// that was not named; OperationName then holds what was received.
	Operation     ledgerfeedv1.Operation
	OperationName string
	// OccurredAt is when the change happened by Intuit's clock, in UTC; zero if
	// Intuit did not say, said it in no known form, or named a time outside of
	// 2000 to 2099. The legacy format may carry whole seconds only.
	OccurredAt time.Time
	// MergedID is the id that was merged away into EntityID; only on a merge,
	// and empty if Intuit did not send it.
	MergedID string
}

// Rejected is an item of a body that is no event.
type Rejected struct {
	// RealmID is empty where the item does not name one.
	RealmID string
	// Raw is the item as received: one JSON value, the caller's to keep.
	Raw []byte
	// Reason is one line for a person.
	Reason string
}

// ParseError says that a body is unreadable as a whole. Its text holds nothing
// of the body.
type ParseError struct {
	Reason string
	Err    error // the JSON decoder's finding; may be nil
}

// Error implements error.
func (e *ParseError) Error() string {
	if e.Err == nil {
		return "parse notification: " + e.Reason
	}
	return "parse notification: " + e.Reason + ": " + e.Err.Error()
}

// Unwrap returns the JSON decoder's finding.
func (e *ParseError) Unwrap() error { return e.Err }

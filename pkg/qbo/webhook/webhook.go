// Package webhook verifies and parses what Intuit posts.
package webhook

import (
	"errors"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

var (
	// ErrNoSignature says that the request carried no signature.
	ErrNoSignature = errors.New("no signature")
	// ErrSignature says that the signature fits none of the tokens.
	ErrSignature = errors.New("signature does not match")
)

// Verify returns the index of the token that signed body.
func Verify(body []byte, signature string, tokens []secret.String) (index int, err error) {
	return -1, ErrSignature
}

// Sign returns the signature of body.
func Sign(body []byte, token secret.String) string { return "" }

// Format is the shape of a notification.
type Format string

// The two shapes that Intuit sends.
const (
	CloudEvents Format = "cloudevents"
	Legacy      Format = "legacy"
)

// Event is one entity that changed.
type Event struct {
	ID            string
	RealmID       string
	Entity        string
	EntityID      string
	Operation     ledgerfeedv1.Operation
	OperationName string
	OccurredAt    time.Time
	MergedID      string
}

// Rejected is an item of a body that is no event.
type Rejected struct {
	RealmID string
	Raw     []byte
	Reason  string
}

// Notification is a parsed body.
type Notification struct {
	Format   Format
	Events   []Event
	Rejected []Rejected
}

// ParseError says that a whole body is unreadable.
type ParseError struct {
	Reason string
	Err    error
}

// Error implements error.
func (e *ParseError) Error() string { return "parse notification: " + e.Reason }

// Unwrap returns the cause.
func (e *ParseError) Unwrap() error { return e.Err }

// Parse reads a body.
func Parse(body []byte) (Notification, error) {
	return Notification{}, &ParseError{Reason: "empty body"}
}

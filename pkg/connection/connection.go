package connection

import (
	"errors"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
)

var (
	// ErrNotConnected: nobody connected the realm, or it was disconnected.
	ErrNotConnected = errors.New("realm not connected")
	// ErrReauthRequired: Intuit takes no refresh token of the realm any more; a
	// person must connect it anew. Its cursors wait for that.
	ErrReauthRequired = errors.New("realm must be connected anew")
	// ErrSealed: the stored token cannot be opened with the keys there are; it is
	// there, and the key that opens it may come back.
	ErrSealed = errors.New("the stored token cannot be opened")
	// ErrParked: a person has put the realm aside. Its cursors wait until it is put
	// back.
	ErrParked = errors.New("realm is parked")
	// ErrStore: Redis did not do what was asked; trying again may help. Only [Store.Import]
	// tells it from other errors.
	ErrStore = errors.New("the connections' Redis did not answer")
)

// State is whether a realm can be read.
type State string

const (
	Live State = "live"
	// ReauthRequired is a realm whose authorisation has lapsed or was revoked.
	ReauthRequired State = "reauth_required"
	// Parked is a realm that a person has put aside: nothing is read, its tokens and
	// cursors wait.
	Parked State = "parked"
	// Disconnected is a realm whose tokens were forgotten because a person asked.
	Disconnected State = "disconnected"
)

// States are all of them, in the order of how much of the realm works.
func States() []State { return []State{Live, ReauthRequired, Parked, Disconnected} }

// Connection is a realm that is or was connected.
type Connection struct {
	RealmID string
	App     string
	State   State
	// Reason is why it is in that state, in words; empty for [Live].
	Reason string
	// ConnectedAt is when it was first connected, again after a disconnect.
	ConnectedAt time.Time
	// ChangedAt is when State last became another.
	ChangedAt time.Time
	// LapsedAt is when it last ceased to be live; it stays after a reconnect, so
	// that the time nothing could be read is LapsedAt to ChangedAt. Zero: never.
	LapsedAt time.Time
	// Generation grows with every token.
	Generation int64
	// ClientID is the client id that the token was issued to; "" if the version that
	// stored it did not note it.
	ClientID string
	// Refusal is Intuit's last answer if it refused the stored refresh token; nil if not.
	Refusal *Refusal
	// HeldUntil is when the next call may be made: Intuit's API refuses tokens that were
	// issued just before. Zero or past: now.
	HeldUntil time.Time
	// Late are the webhooks that came after the realm was disconnected: they show that
	// Intuit does not know of it.
	Late Late
	// Token holds the deadlines: an hour, some 100 days since the last refresh,
	// five years. It is empty once disconnected. Use [Store.Token] for calls.
	Token qbo.Token
}

package connection

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
)

var (
	// ErrNotConnected: nobody connected the realm, or it was disconnected.
	ErrNotConnected = errors.New("realm not connected")
	// ErrReauthRequired: Intuit takes no refresh token of the realm any more; a
	// person must connect it anew. Its cursors wait for that.
	ErrReauthRequired = errors.New("realm needs reauthorisation")
	// ErrSealed: the stored token cannot be opened with the keys there are; it is
	// there, and the key that opens it may come back.
	ErrSealed = errors.New("the stored token cannot be decrypted")
	// ErrParked: a person has put the realm aside. Its cursors wait until it is put
	// back.
	ErrParked = errors.New("realm is parked")
	// ErrErased: what was kept of the realm was erased because a person asked, and nothing
	// may be kept of it until it is connected again. It wraps [ErrNotConnected].
	ErrErased = fmt.Errorf("%w: it was erased", ErrNotConnected)
	// ErrRefused: Intuit refuses every call about the realm: the person who connected
	// it has lost the right, its subscription has ended, or it is of another
	// environment. It is asked again once an hour.
	ErrRefused = errors.New("intuit refuses the company")
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
	// NoAccess is a realm that Intuit refuses because the person who connected it has
	// lost the right to it.
	NoAccess State = "no_access"
	// SubscriptionEnded is a realm whose QuickBooks subscription has ended.
	SubscriptionEnded State = "subscription_ended"
	// WrongEnvironment is a realm that never answered: a sandbox company at the
	// production URL, or the other way round.
	WrongEnvironment State = "wrong_environment"
	// Pending is a realm whose consent waits until a person approves it: nothing is read
	// until then. See [Store.Hold].
	Pending State = "pending_approval"
	// Disconnected is a realm whose tokens were forgotten because a person asked.
	Disconnected State = "disconnected"

	// erased is a realm of which only that is kept: see [Store.Erase]. No list has it.
	erased State = "erased"
)

// States are all of them, in the order of how much of the realm works. A version that
// does not know one of them reads nothing of the realm and acknowledges its events, as
// of one that is [Parked]: a scan finds them once it is live.
func States() []State {
	return append(append([]State{Live}, RefusedStates()...), ReauthRequired, Parked, Pending, Disconnected)
}

// RefusedStates are those of realms that Intuit refuses. They come back by themselves.
func RefusedStates() []State { return []State{NoAccess, SubscriptionEnded, WrongEnvironment} }

// Refused reports whether Intuit refuses a realm in that state.
func (s State) Refused() bool { return slices.Contains(RefusedStates(), s) }

// Remedy is what a person can do about a realm that is not live; empty for [Live].
func (s State) Remedy() string {
	switch s {
	case NoAccess:
		return "have an administrator of the company connect it again; it also comes back by itself once Intuit answers"
	case SubscriptionEnded:
		return "the company has to renew its QuickBooks subscription; it then comes back by itself within an hour"
	case WrongEnvironment:
		return "a sandbox company needs qbo.base_url https://sandbox-quickbooks.api.intuit.com and the development keys, any other one the production URL and keys; otherwise its subscription has ended"
	case ReauthRequired:
		return "connect it again"
	case Parked:
		return "ledgerfeed realm unpark puts it back"
	case Pending:
		return "ledgerfeed realm approve takes its consent, ledgerfeed realm reject gives it back"
	case Disconnected:
		return "connect it again if it is to be read"
	}
	return ""
}

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
	// Access is what Intuit answers while it refuses every call about the realm, or may.
	Access AccessRefusal
	// ClientID is the client id that the token was issued to; "" if the version that
	// stored it did not note it.
	ClientID string
	// Refusal is Intuit's last answer if it refused the stored refresh token; nil if not.
	Refusal *Refusal
	// RefreshRefusal is the last answer of the token endpoint if it was another error that
	// may pass; nil if not.
	RefreshRefusal *RefreshRefusal
	// HeldUntil is when the next call may be made: Intuit's API refuses tokens that were
	// issued just before. Zero or past: now.
	HeldUntil time.Time
	// Late are the webhooks that came after the realm was disconnected: they show that
	// Intuit does not know of it.
	Late Late
	// Consent is one that waits for a person's approval, also of a realm that is live;
	// zero is none.
	Consent Held
	// Token holds the deadlines: an hour, some 100 days since the last refresh,
	// five years. It is empty once disconnected. Use [Store.Token] for calls.
	Token qbo.Token
}

// Unusable says why nothing is read of the realm, with the reason that is stored: nil
// for one that is live. It wraps [ErrNotConnected], [ErrReauthRequired], [ErrParked] or
// [ErrRefused].
func (c Connection) Unusable() error {
	why := ErrNotConnected
	switch {
	case c.State == Live:
		return nil
	case c.State == ReauthRequired:
		why = ErrReauthRequired
	case c.State == Parked:
		why = ErrParked
	case c.State.Refused():
		why = ErrRefused
	case c.State == Disconnected:
		return fmt.Errorf("realm %s is disconnected: %w", c.RealmID, why)
	case c.State == Pending:
		return fmt.Errorf("realm %s waits for approval: %w", c.RealmID, why)
	}
	if c.Reason == "" {
		return fmt.Errorf("realm %s: %w", c.RealmID, why)
	}
	return fmt.Errorf("realm %s: %w: %s", c.RealmID, why, c.Reason)
}

package realmstatus

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/access"
	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// State is how a realm is doing.
type State string

const (
	// Live: webhooks are delivered as they come, and every scan so far found its end.
	Live State = "live"
	// CatchingUp: something is known to be missing and is on its way.
	CatchingUp State = "catching_up"
	// GapSuspected: changes may have been missed, and no scan has looked since.
	GapSuspected State = "gap_suspected"
	// NoAccess: Intuit refuses the company because the person who connected it has lost
	// the right. Events and cursors wait; Intuit is asked once an hour.
	NoAccess State = "no_access"
	// SubscriptionEnded: so, because its QuickBooks subscription has ended.
	SubscriptionEnded State = "subscription_ended"
	// WrongEnvironment: so, because it is of another environment than qbo.base_url.
	WrongEnvironment State = "wrong_environment"
	// Parked: nothing can or shall be read; the cursors wait.
	Parked State = "parked"
	// PendingApproval: its consent waits for a person, and nothing is read.
	PendingApproval State = "pending_approval"
	// Disconnected: the tokens were forgotten because a person asked.
	Disconnected State = "disconnected"
)

// States are all of them.
func States() []State {
	return []State{Live, CatchingUp, GapSuspected, NoAccess, SubscriptionEnded, WrongEnvironment, Parked, PendingApproval, Disconnected}
}

// Refused reports whether Intuit refuses a company in that state.
func (s State) Refused() bool { return connection.State(s).Refused() }

// String is the state in words.
func (s State) String() string { return strings.ReplaceAll(string(s), "_", " ") }

// connections are the states of a connection that can be such a realm.
func (s State) connections() []connection.State {
	switch s {
	case NoAccess, SubscriptionEnded, WrongEnvironment:
		return []connection.State{connection.State(s)} // they have the same names
	case Parked:
		return []connection.State{connection.ReauthRequired, connection.Parked}
	case PendingApproval:
		return []connection.State{connection.Pending}
	case Disconnected:
		return []connection.State{connection.Disconnected}
	}
	return []connection.State{connection.Live}
}

const (
	// overdueAfter is how long a realm is due and nobody scans it before that is odd.
	overdueAfter = time.Hour
	// staleAfter is the age of a cursor that a scan should have moved: the slowest
	// rhythm is 25 days. Four days later QuickBooks begins to forget deletions.
	staleAfter = 26 * 24 * time.Hour
	// margin is how far a cursor stays behind the scan that moved it.
	margin = 2 * time.Minute
)

// judge says how a realm is doing at a time, given the outages of ours. Why is empty
// for one that is live. app is the problem of its app.
func judge(now time.Time, c connection.Connection, p state.Progress, w state.Watch, app state.AppProblem) (s State, why string) {
	if c.State.Refused() {
		return State(c.State), orElse(c.Reason, c.State.Remedy())
	}
	switch c.State {
	case connection.Disconnected:
		why := orElse(c.Reason, "its tokens were forgotten")
		if c.GrantActive() {
			why += fmt.Sprintf("; %d webhooks came since, the last at %s: the authorisation is active, %s", c.Late.Events, moment(c.Late.Last), connection.OwnerEnds)
		}
		return Disconnected, why
	case connection.Pending:
		return PendingApproval, "a consent for app " + c.Consent.App + " waits since " + moment(c.Consent.At) + "; " + connection.Pending.Remedy()
	case connection.ReauthRequired:
		return Parked, refused(c)
	case connection.Parked:
		return Parked, orElse(c.Reason, "by request")
	}
	if app.Found() {
		text, _ := access.Explain(app)
		return GapSuspected, text
	}
	if c.Access.Found() {
		return GapSuspected, "Intuit refuses calls since " + moment(c.Access.Since) + ", and it is not known yet whether all: " + c.Access.Message
	}
	if why := waits(now, c); why != "" {
		return GapSuspected, why
	}
	if why := missed(now, c, p, w); why != "" {
		return GapSuspected, why
	}
	if why := comes(p); why != "" {
		return CatchingUp, why
	}
	if name, at := oldest(p); !at.IsZero() && now.Sub(at) > staleAfter {
		return GapSuspected, name + " was last covered up to " + moment(at)
	}
	return Live, ""
}

// waits says why no call can be made for a live realm now, if so.
func waits(now time.Time, c connection.Connection) string {
	switch {
	case c.Refusal != nil:
		return c.Refusal.String() + "; the app's keys may be wrong, it is tried again at " + moment(c.Refusal.Next)
	case c.RefreshRefusal != nil && !c.Token.AccessExpires.After(now):
		return "Intuit gives no token: " + c.RefreshRefusal.Message + "; it is asked again at " + moment(c.RefreshRefusal.Next)
	case c.HeldUntil.After(now):
		return "Intuit's API refuses tokens that were issued just before (401); no call is made until " + moment(c.HeldUntil)
	}
	return ""
}

// refused says when a refused token is tried again.
func refused(c connection.Connection) string {
	why := orElse(c.Reason, "it must be connected anew")
	if c.Refusal != nil && !c.Refusal.Next.IsZero() {
		why += "; it is tried again at " + moment(c.Refusal.Next)
	}
	return why
}

// missed says what a scan should have looked at and did not, if anything.
func missed(now time.Time, c connection.Connection, p state.Progress, w state.Watch) string {
	if !p.Due.IsZero() && !p.Claimed && now.Sub(p.Due) > overdueAfter {
		return "its scan is due since " + moment(p.Due) + ", and no reconciler makes it"
	}
	if len(p.Cursors) == 0 {
		return "" // its first load covers everything
	}
	last := scanned(p)
	switch {
	case !c.LapsedAt.IsZero() && last.Before(c.ChangedAt):
		return "nothing could be read from " + moment(c.LapsedAt) + " to " + moment(c.ChangedAt) + ", and no scan has covered that yet"
	case w.Down():
		return "no ingress was heard of since " + moment(w.Beat) + ": webhooks are not taken"
	case last.Before(w.Since) && c.ConnectedAt.Before(w.Since):
		return "webhooks may have been lost up to " + moment(w.Since) + " (an outage of ours), and no scan has covered that yet"
	case p.Due.IsZero():
		return "it is not on the schedule of scans"
	}
	return ""
}

// comes says what is known to be missing and on its way, if anything.
func comes(p state.Progress) string {
	switch {
	case len(p.Cursors) == 0:
		return "its first load has not come to an end for any kind of record"
	case p.Loading > 0:
		return fmt.Sprintf("%d kinds of record are being loaded", p.Loading)
	case p.Scans > 0:
		return fmt.Sprintf("what %d scans found missing is being delivered", p.Scans)
	}
	return ""
}

// scanned is when the last scan began that read everything. Without a note of it, the
// cursors tell.
func scanned(p state.Progress) time.Time {
	if at := newest(p.Cursors).Add(margin); at.After(p.Pace.Scanned) {
		return at
	}
	return p.Pace.Scanned
}

func newest(cursors map[string]time.Time) time.Time {
	var last time.Time
	for _, at := range cursors {
		if at.After(last) {
			last = at
		}
	}
	return last
}

// oldest is the cursor that is furthest behind, of the entities that every scan
// covers and that QuickBooks does not refuse.
func oldest(p state.Progress) (name string, at time.Time) {
	for _, e := range entity.CDC() {
		if slices.Contains(p.Refused, e) {
			continue
		}
		if c, ok := p.Cursors[e]; ok && (at.IsZero() || c.Before(at)) {
			name, at = e, c
		}
	}
	return name, at
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") }

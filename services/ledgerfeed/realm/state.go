package realm

import (
	"fmt"
	"slices"
	"strings"
	"time"

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
	// Parked: nothing can or shall be read; the cursors wait.
	Parked State = "parked"
	// Disconnected: the tokens were forgotten because a person asked.
	Disconnected State = "disconnected"
)

// States are all of them.
func States() []State { return []State{Live, CatchingUp, GapSuspected, Parked, Disconnected} }

// String is the state in words.
func (s State) String() string { return strings.ReplaceAll(string(s), "_", " ") }

// connections are the states of a connection that can be such a realm.
func (s State) connections() []connection.State {
	switch s {
	case Parked:
		return []connection.State{connection.ReauthRequired, connection.Parked}
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
// for one that is live.
func judge(now time.Time, c connection.Connection, p state.Progress, w state.Watch) (s State, why string) {
	switch c.State {
	case connection.Disconnected:
		return Disconnected, orElse(c.Reason, "its tokens were forgotten")
	case connection.ReauthRequired:
		return Parked, orElse(c.Reason, "it must be connected anew")
	case connection.Parked:
		return Parked, orElse(c.Reason, "by request")
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

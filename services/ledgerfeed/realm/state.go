package realm

import (
	"fmt"
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

// judge says how a realm is doing at a time. Why is empty for one that is live.
func judge(now time.Time, c connection.Connection, p state.Progress) (s State, why string) {
	switch c.State {
	case connection.Disconnected:
		return Disconnected, orElse(c.Reason, "its tokens were forgotten")
	case connection.ReauthRequired:
		return Parked, orElse(c.Reason, "it must be connected anew")
	case connection.Parked:
		return Parked, orElse(c.Reason, "by request")
	}
	if len(p.Cursors) == 0 {
		return CatchingUp, "its first load has not come to an end for any kind of record"
	}
	lapsed := !c.LapsedAt.IsZero() && newest(p.Cursors).Add(margin).Before(c.ChangedAt)
	switch {
	case p.Scans > 0:
		return CatchingUp, fmt.Sprintf("what %d scans found missing is being delivered", p.Scans)
	case lapsed:
		return GapSuspected, "nothing could be read from " + moment(c.LapsedAt) + " to " + moment(c.ChangedAt) + ", and no scan has covered that yet"
	case p.Due.IsZero():
		return GapSuspected, "it is not on the schedule of scans"
	case !p.Claimed && now.Sub(p.Due) > overdueAfter:
		return GapSuspected, "its scan is due since " + moment(p.Due) + ", and no reconciler makes it"
	}
	if name, at := oldest(p.Cursors); !at.IsZero() && now.Sub(at) > staleAfter {
		return GapSuspected, name + " was last covered up to " + moment(at)
	}
	return Live, ""
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
// covers.
func oldest(cursors map[string]time.Time) (name string, at time.Time) {
	for _, e := range entity.CDC() {
		if c, ok := cursors[e]; ok && (at.IsZero() || c.Before(at)) {
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

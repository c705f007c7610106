package qbo

import (
	"errors"
	"strconv"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
)

const (
	perSecond = 1_000_000
	tombstone = perSecond - 1
	maxToken  = tombstone - 1
	// maxSecond keeps every version below 2^53, exact in a Lua number; it is
	// in the year 2255.
	maxSecond = 1<<53/perSecond - 1
)

// Version orders the states of one entity: LastUpdatedTime in Unix seconds
// x 1e6 + SyncToken. The time comes first because CDC's deletions carry no
// SyncToken; the SyncToken breaks ties within a second (one above 999,998 counts
// as 999,998). A deletion takes 999,999 and so comes after every write of its
// second. Versions lie in [0, 2^53); a zero or earlier than 1970 time counts as
// second 0, a SyncToken that is no number as 0.
func Version(updated time.Time, syncToken string, deleted bool) int64 {
	second := min(max(updated.Unix(), 0), maxSecond)
	if deleted {
		return second*perSecond + tombstone
	}
	return second*perSecond + token(syncToken)
}

func token(s string) int64 {
	n, err := strconv.ParseUint(s, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return maxToken
	case err != nil:
		return 0
	}
	return int64(min(n, maxToken))
}

// TombstoneVersion is the version of a deletion in the second of at.
func TombstoneVersion(at time.Time) int64 { return Version(at, "", true) }

// IsTombstone says whether v is the version of a deletion.
func IsTombstone(v int64) bool { return v%perSecond == tombstone }

// VersionTime is the second of v, in UTC.
func VersionTime(v int64) time.Time { return time.Unix(v/perSecond, 0).UTC() }

// Newer says whether the state of version want is newer than that of have; of no
// state (0) any is. A higher SyncToken wins over an earlier time: two of Intuit's
// nodes may differ by a second.
func Newer(have, want int64) bool {
	if have == 0 || want > have || sabotage.On(sabotage.TokenIgnored) {
		return want > have
	}
	return !IsTombstone(have) && !IsTombstone(want) && want%perSecond > have%perSecond
}

// After is the version of a state that is [Newer] than have, as a number above it:
// where only its SyncToken is higher, in the second of have.
func After(have, want int64) int64 {
	if want > have || !Newer(have, want) {
		return want
	}
	return have - have%perSecond + want%perSecond
}

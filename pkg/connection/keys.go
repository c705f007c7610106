package connection

import "github.com/ledgerfeed/ledgerfeed/pkg/state"

// The keys, beside those in package state:
//
//	key                          shape                      grows with
//	lf:1:conn:{R}                HASH the fields below      realms ever connected
//	lf:1:realms                  SET realm                  realms ever connected
//	lf:1:held                    SET realm                  realms with a consent that waits for approval
//	lf:1:lost                    SET realm                  realms whose record is gone, until they are connected again
//	lf:1:index:{realms}:STATE    ZSET realm → 0             realms in that state; "none": the name leads to nothing
//	lf:1:index:{realms}:refresh  ZSET realm → Unix s        realms with a token: when it lapses without a refresh
//	lf:1:index:{realms}:hard     ZSET realm → Unix s        the same: when it lapses in any case
//	lf:1:index:{realms}:retry    ZSET realm → Unix s        realms whose token was refused, or is to be checked: when
//	lf:tmp:1:turn:{APP}:CLIENT   STRING Unix ms             apps that Intuit refuses: when it is asked next; 5 min
//	lf:tmp:1:consent:{state}     STRING JSON                consents under way, 15 min
//
// The hash is the truth. The index is for lists and counts and may be behind; it is
// made anew from the hashes. Leases are named "token:<realm>".
const realmsKey = "lf:1:realms"

func indexKey(name string) string { return "lf:1:index:{realms}:" + name }

func connKey(realm string) string { return state.Key("conn", realm) }

func leaseName(realm string) string { return "token:" + realm }

// The fields of lf:1:conn:{R}. The scripts name them too.
const (
	fieldApp        = "app"
	fieldState      = "state"
	fieldReason     = "reason"
	fieldConnected  = "connected" // Unix ms, as are the next two
	fieldChanged    = "changed"
	fieldLapsed     = "lapsed"
	fieldGeneration = "generation"
	fieldToken      = "token"    // sealed
	fieldPrevious   = "previous" // sealed; the token that the last refresh was made with
	fieldRejected   = "rejected" // the generation whose access token the API refused

	// While Intuit refuses every call about the realm, or may.
	fieldRefusedSince   = "refused_since" // Unix ms, as is the next probe
	fieldRefusedNext    = "refused_next"
	fieldRefusedProbes  = "refused_probes"
	fieldRefusedAs      = "refused_as"
	fieldRefusedMessage = "refused_message"
	fieldRefusedTID     = "refused_tid"
	fieldRefusal        = "refusal" // JSON, see [Refusal]
	fieldCheck          = "check"   // Unix ms: since when the token is to be checked
	fieldRevoked        = "revoked" // the generation whose end Intuit has confirmed
	fieldHeld           = "held"    // Unix ms: until when no token is given
	fieldUnanswered     = "refresh" // JSON, see [RefreshRefusal]
	// Events that came after the realm was disconnected: how many, and Unix ms.
	fieldLateEvents = "late_events"
	fieldLateFirst  = "late_first"
	fieldLateLast   = "late_last"
	// A consent that waits for approval: its token, sealed, its app, and Unix ms.
	fieldPending    = "pending"
	fieldPendingApp = "pending_app"
	fieldPendingAt  = "pending_at"
	// Only the scripts know these: presented, the generation whose previous token was
	// presented at Intuit; rejected_at, when a refresh for a 401 was last allowed, and
	// holds, how often the realm was held since; consented, in Unix ms, when the token of
	// the last consent was given.
)

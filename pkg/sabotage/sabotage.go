// Package sabotage plants bugs and clock errors into the services, so that the
// chaos run can be shown to catch them.
//
// A normal build holds none of it: On is false, Apart is "" and Now is time.Now,
// all known to the compiler, which drops the code behind them. Only a build with
// the tag chaosmutants reads CHAOS_BUG, the name of one [Bug], and CHAOS_CLOCK, a
// duration the process's clock is wrong by. A test of the chaos run looks into the
// binaries for these names.
//
// At each [Point] such a build also ends itself, by SIGKILL, when CHAOS_CRASH
// names the point: a crash exactly there.
//
// CHAOS_CONTROL names a file that such a build reads again whenever it changes. A line
// "clock DURATION" moves the process's clock while the line is there. A line "stop
// POINT" stops the process by SIGSTOP when it comes to the point the next time, until
// somebody sends SIGCONT.
//
// It does not decide when a bug does harm: each is a plain mistake, one line at
// the place where somebody could make it.
package sabotage

// Bug is one mistake that can be planted.
type Bug int

// The bugs. Each breaks the invariant named behind it.
const (
	// None is no bug.
	None Bug = iota
	// AnswerBeforeAck answers 200 before the broker's acknowledgement (I1).
	AnswerBeforeAck
	// MarkBeforeWrite marks a change as delivered before it is (I2, I3).
	MarkBeforeWrite
	// AckBeforeMark acks a message when it is taken (I2).
	AckBeforeMark
	// NoVersionGuard lets an older version replace a newer one (I3).
	NoVersionGuard
	// TiesDropped takes two changes within a second for one (I2, I3).
	TiesDropped
	// CursorAtPublish moves cursors when what was missing is published (I4).
	CursorAtPublish
	// CursorByEvent moves cursors to the last processed webhook event, as Intuit
	// advises (I4).
	CursorByEvent
	// TruncatedAccepted takes a scan that was cut off for a whole one (I4, I8).
	TruncatedAccepted
	// MaxDeliver gives a message up after three deliveries (I2).
	MaxDeliver
	// RefreshUnleased refreshes a token while another replica does (I7).
	RefreshUnleased
	// LimiterApart has each replica count its calls alone (I6).
	LimiterApart
	// TombstoneDropped tells no sink of deletions (I3).
	TombstoneDropped

	// DeletionUnconfirmed takes a webhook's word for a deletion, without a read (I15).
	DeletionUnconfirmed
	// FailedReadIsEvidence takes a read that failed for one that did not show the
	// record (I15).
	FailedReadIsEvidence
	// TombstoneFinal lets no state replace a tombstone (I3, I15).
	TombstoneFinal
	// FollowUpDropped does not note what the next scan must look at again (I15).
	FollowUpDropped
	// FutureTombstone gives a tombstone the time that its event claims, though that is
	// yet to come (I15).
	FutureTombstone
	// RestoredWithoutForce writes a restored record only if its version is higher than
	// that of the tombstone (I15).
	RestoredWithoutForce
	// ContentIgnored takes two documents of one version for one (I3).
	ContentIgnored
	// TokenIgnored orders states by their time alone (I3).
	TokenIgnored
	// DeadLetterHidesAllSinks takes a dead letter of one sink for one of all (I4).
	DeadLetterHidesAllSinks
	// DeadLetterNeverEnds takes a letter that was purged for one that is there (I3).
	DeadLetterNeverEnds
	// FullRetryBlocks keeps a message while the retry stream is full (I9).
	FullRetryBlocks
	// UnknownCompanyLetterPerEvent makes a dead letter of each event of a company that
	// nobody connected (I9).
	UnknownCompanyLetterPerEvent
	// OneSweepDeletes takes one sweep that does not return a record for two (I15).
	OneSweepDeletes
	// InventedTimeRecent takes the time that we gave a deletion without one for a recent
	// one, and waits for its webhook (I3).
	InventedTimeRecent
	// StaleReadCovered takes a read that is older than its event for the new state
	// (I2).
	StaleReadCovered
	// RefusalForgotten asks for an entity that a company has refused at every scan (I16).
	RefusalForgotten
	// RefreshOnEvery401 answers each 401 with a refresh, also of a token that was issued
	// a moment ago (I7).
	RefreshOnEvery401

	// ClockOfReplica schedules and claims by the clock of the replica (I3, I8).
	ClockOfReplica
	// BreakerOff believes in the absence of any number of records (I15).
	BreakerOff
	// CursorRewindLost moves cursors forward whatever has moved them back meanwhile (I4).
	CursorRewindLost
	// FailoverStays keeps connections to a server that takes no writes any more (I3, I11).
	FailoverStays
)

// Point is a place between two steps of what becomes of a notification, or of a
// scan, where a process may die.
type Point string

// The points, each named after the step that is done.
const (
	Received  Point = "received"  // ingress: the body is read
	Verified  Point = "verified"  // ingress: its signature fits
	Published Point = "published" // ingress: the broker has acknowledged all of it
	Answered  Point = "answered"  // ingress: 200 is sent

	Delivered Point = "delivered" // processor: a message is taken off the stream
	Coalesced Point = "coalesced" // processor: its events are in a batch
	Hydrated  Point = "hydrate"   // processor: the records are read
	Followed  Point = "followed"  // processor: what the next scan must look at is noted
	Written   Point = "write"     // processor: the sinks have them
	Marked    Point = "mark"      // processor: the marks say so
	Acked     Point = "acked"     // processor: the broker forgets the message

	ScanBegun     Point = "scan-begun"     // reconciler: the cursors are read
	Scanned       Point = "scanned"        // reconciler: an answer is compared
	ScanSaved     Point = "scan-saved"     // reconciler: what is missing is saved
	ScanPublished Point = "scan-published" // reconciler: what is missing is on the stream
	ScanConcluded Point = "scan-concluded" // reconciler: next the cursors move of what lacks nothing
	ScanVerified  Point = "scan-verified"  // reconciler: it is delivered
	CursorMoved   Point = "cursor-moved"   // reconciler: the cursor says so
	Restored      Point = "restored"       // reconciler: records under a wrong tombstone are on the stream
)

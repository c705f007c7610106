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
	Written   Point = "write"     // processor: the sinks have them
	Marked    Point = "mark"      // processor: the marks say so
	Acked     Point = "acked"     // processor: the broker forgets the message

	Scanned       Point = "scanned"        // reconciler: an answer is compared
	ScanPublished Point = "scan-published" // reconciler: what is missing is on the stream
	ScanVerified  Point = "scan-verified"  // reconciler: it is delivered
	CursorMoved   Point = "cursor-moved"   // reconciler: the cursor says so
)

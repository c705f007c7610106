// Package replay reads records of a company from QuickBooks again and has them
// delivered to one sink, whatever that sink has of them.
//
// It guarantees that each record that QuickBooks shows in the range when it is
// read is on the event stream, for that sink alone and marked as a replay, before
// Run returns without an error; so is every deletion that ChangeDataCapture still
// knows. What it cannot know, such as older deletions, is in Result.Notes.
//
// It carries no data: the processor reads each record once more and delivers what
// it is then. A sink never gets an older version than it was given before; the
// same version it gets again. No cursor and no mark is touched here.
package replay

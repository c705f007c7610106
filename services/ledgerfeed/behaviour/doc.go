// Package behaviour measures what the feed does over a simulated day while QuickBooks
// answers with something else than what was asked for.
//
// # What runs
//
// The services in one process with an embedded broker and Redis, and a simulated
// QuickBooks, all by one clock that the test moves in steps of five minutes: 288 are a
// day of the real schedule. Between two steps everything that is due is done.
//
// # What it guarantees
//
//   - Calls are counted where they arrive, and split as Intuit charges for them: those
//     that were answered, and those that were refused.
//   - Each row of the table in docs/behaviour.md has bounds of its own that the test
//     checks; -update writes the measured numbers to the page.
//
// # What it does not do
//
// The delays of the broker pass by the real clock: an event that is retried an hour
// later, by its delay, is still waiting when the simulated day is over.
package behaviour

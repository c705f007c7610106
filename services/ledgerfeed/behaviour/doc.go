// Package behaviour measures what the feed does over a simulated day while QuickBooks
// answers with something else than what was asked for.
//
// # What runs
//
// The services in one process with an embedded broker and Redis, and a simulated
// QuickBooks, all by one clock that the test moves in steps of five minutes: 288 are a
// day of the real schedule. Steps in which no company is due and no message waits are
// passed over, an hour at most. Between two steps everything that is due is done.
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
// The broker's clock is the real one, so that its delays are shortened: what waits for a
// company comes back at once, which costs no call while the company is refused, and the
// backoffs of seconds are a twentieth. So the numbers of retries, which are free, differ
// by a few between runs.
package behaviour

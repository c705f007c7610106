// Package reconciler finds the changes no webhook brought: it scans each realm
// by the API, compares what it sees with what every sink has, puts the missing
// changes on the stream, and moves the realm's cursors when they are delivered.
//
// The steps are files: schedule (which realm is due: pace by what changes, outage
// by what we may have lost, job because somebody asks), plan (what to ask), scan
// (cdc, query, sweep, load), compare (what is missing), publish, verify (may the
// cursor move).
//
// It guarantees that a cursor says the truth: all changes of its entity up to
// that time by Intuit's clock are at every registered sink or in the dead
// letters. A scan that failed, was cut off or is not verified moves nothing, so
// that the next one looks at the same window again. Two reconcilers may run at
// the same time: leases keep them apart, and should a lease be lost, cursors
// only ever grow and each is verified by itself.
//
// It does not read entities for delivery and does not write to sinks: what it
// publishes takes the same way as a webhook.
package reconciler

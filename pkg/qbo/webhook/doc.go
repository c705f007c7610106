// Package webhook verifies and reads what Intuit posts to a webhook endpoint.
//
// # Guarantees
//
// A Verifier works on the raw bytes of the body and takes the same time for every
// token it was given, whichever fits. Parse reads both formats Intuit has sent
// (CloudEvents and the older eventNotifications) without being told which, at
// any depth, and never panics. What it cannot read is not lost: an item that is
// no event is returned with its raw bytes and the reason, the other items of the
// body pass; only a body that is unreadable as a whole is an error.
// docs/webhooks.md has the odd forms one by one.
//
// An item is an event when it names a realm, an entity and an id. Everything
// else may be missing or odd: an event says where to look, and the API says
// what is there. Entities and operations this package does not know keep the
// name they came with.
//
// # What it does not do
//
// It reads no HTTP request and keeps no state: Intuit's scheme has no time
// stamp in the signature, so a replayed body verifies again, and duplicates are
// for the consumer to find. It checks no size; bound the body before.
package webhook

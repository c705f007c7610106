// Package webhook is a sink that posts changes to an HTTP endpoint, signed as
// Standard Webhooks (standardwebhooks.com) says, in the form of CloudEvents 1.0.
//
// # What it guarantees
//
// Write returns nil only after the endpoint answered 2xx for every change. A
// change that is sent again, after a crash or an answer that was lost, has the
// same webhook-id: the idempotency key realm/entity/id/version/sink. At most so
// many requests are under way, and so many a second are sent, as the options say,
// over all writes of this process. It never connects to an address of a private
// network unless that network is allowed, whatever name or redirect leads there.
//
// What the endpoint refuses for good (400, 413, 415, 422) is permanent for that
// change alone; anything else is tried again, after Retry-After where the
// endpoint gives it.
//
// # What it does not do
//
// It does not follow redirects and keeps nothing. It cannot guard against an
// older version that arrives after a newer one at an endpoint behind several
// workers: the receiver compares the version, which every change carries.
package webhook

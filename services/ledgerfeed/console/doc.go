// Package console is the web page of the feed: how it is doing, company by company,
// and what an operator does about it.
//
// Pages are made on the server and readable without a script; htmx, which is embedded,
// only keeps some of them up to date. Every page and action is also there as JSON under
// /api/v1, described by /api/v1/openapi.json, which is made from the same table of
// routes (routes.go).
//
// # What it guarantees
//
// Nothing is shown without a login, except where it listens on this machine alone and
// no token is set. Viewers change nothing. A session is a random id in a cookie that no
// other site can send along; Redis holds who logged in, and the settings say at each
// request what they may do. What the page of another site sends is refused. What somebody
// without a login may send is bounded in bytes, connections and failures. Every action is
// written to the log of actions, with its outcome, refused ones included. No page costs
// more for 100,000 companies than for a hundred.
//
// # What it does not do
//
// It keeps nothing itself: all of it is in Redis and on the broker, so that any number
// of consoles may run. A replay alone runs in the process that began it, and ends with
// it; it may be begun again.
package console

// Package action is the trail of what people did to the feed: by the console, its API,
// the command line and the OAuth flow, with who, from where and when.
//
// An entry goes to the log first and then to the stream LF_ACTIONS, from which nobody can
// delete it. Each entry holds the hash of the one before, so that [Verify] finds one that
// was changed, left out or put in between. While NATS is away entries wait in Redis and
// are appended later; an action is never refused because of it: an operator may
// have to act just then.
//
// # What it does not do
//
// It does not prove who acted: on the command line the name is the operating system's.
// Who owns the broker can replace the whole stream: compare the hash of a log line with
// `ledgerfeed actions verify --hash`.
package action

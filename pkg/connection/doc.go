// Package connection keeps the QuickBooks companies that are connected and
// their tokens, encrypted, in Redis.
//
// # What it guarantees
//
// Over all replicas at most one refresh of a realm is under way, so that no
// refresh token is presented twice and each new one is stored before it is
// used, the one before it beside it. Losing Redis for a while loses no token:
// a new one that cannot be stored stays in memory until it can. Tokens are
// sealed with AES-256-GCM and bound to their realm; no error and no log line
// holds one.
//
// # A refresh, step by step
//
//  1. take the realm's lease; whoever does not get it waits and reads again
//  2. read again: the token may be new by now
//  3. ask Intuit; the lease is renewed meanwhile
//  4. store the answer, if the generation is still that of step 2
//  5. release the lease
//
// A process that dies before 3 has changed nothing; after 4, the next reader
// finds the new token. In between, Intuit may have voided the stored refresh
// token in favour of one nobody knows. Intuit changes the value about once a
// day and answers with the same one until then, so that the stored one nearly
// always still works. Where every refresh rotates (the simulator can be that
// strict), it does not, nor does the one before it, which is presented once: the realm
// then becomes [ReauthRequired] and a person must connect it anew. No order of the steps
// avoids that, since Intuit acknowledges nothing; a lease that runs out and a
// second try make sure that nothing else is lost.
//
// # Refusals
//
// A refused refresh token is kept. [Store.Watch] presents it again after 1 h, 6 h, then
// daily, [Store.Refresh] at once: Intuit refuses good tokens during incidents. Where the
// app is refused and not the realm (several realms at once, or Intuit's words say so) the
// realm stays live, and one realm tries for all. A token that was issued to another
// client id is not presented. A 401 of the API leads to one refresh in ten minutes; after
// that [Store.Token] returns a [WaitError] for a while.
//
// # Lists
//
// [Store.Page], [Store.Counts] and [Store.Deadlines] cost the same for ten realms and
// for 100,000. They go by an index beside the records, which is put right when it is
// read, once a day by [Store.Watch], and made anew if it is not there.
//
// # What it does not do
//
// It does not talk to Intuit itself (a [Refresher] and a [Revoker] do) and starts no
// goroutine that outlives a call. A realm's cursors and marks are package state's;
// they outlive a lapsed authorisation. How a realm is doing beyond its authorisation
// is not said here.
package connection

// Package qbo is a client of the QuickBooks Online accounting API, as far as a
// change feed needs it: CDC, Query, Read, and OAuth 2.0.
//
// # Guarantees
//
// Every call has a deadline and a bounded answer. Entities come as the raw JSON
// object Intuit sent, with only what orders and identifies them read out (id,
// SyncToken, LastUpdatedTime, deletion). An error of the API is a *Fault
// whichever shape it came in (two of JSON, one of XML, or nothing readable), also
// when it hides in an answer with status 200; test it with errors.Is against the
// sentinels, or ask MeaningOf: one table says what each response means, with the
// recorded response behind each row. A call takes its token from a TokenSource and
// its turn from a Limiter, tells the first about a refused token and the second
// about a 429. Token text is in no error: what looks like a token in a fault is
// blanked.
//
// # What it does not do
//
// It does not retry, except once with a new token after a refused one: reads are
// metered, and the callers have better means to try again (a redelivered
// message, the next scheduled scan). Temporary says whether that is worth it.
// It does not page, write, or use the batch endpoint, whose items are metered
// one by one.
//
// Facts about the API are Intuit's documentation (developer.intuit.com) or
// recorded answers; where they contradict each other the comment at the place
// says so.
package qbo

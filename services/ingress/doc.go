// Package ingress takes Intuit's webhooks: it verifies the signature over the
// raw body, puts the events on the stream, and answers 200 once the broker has
// acknowledged them.
//
// It guarantees that 200 is sent only after a PubAck for everything in the body
// (I1), that nothing unsigned or altered reaches the stream, and that after a
// good signature nothing in the body leads to another answer than 200 or 503
// (I10): Intuit withholds every later event of the app until the failed one is
// accepted. What cannot be read goes to the dead letters with its raw bytes.
// Every answer is sent within the budget (2.5 s), since Intuit counts one later
// than 3 s as failed.
//
// It keeps no state, does not touch Redis, does not look at entity data, and
// does not know which realms are connected: all of that is the processor's.
package ingress

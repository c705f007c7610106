// Package ingress receives Intuit's webhooks: POST /webhooks/{app}.
//
// It verifies the raw body, makes one envelope per realm of it, publishes them
// and answers 200 when the broker has acknowledged all of them; the whole within
// a budget below the three seconds Intuit waits.
//
// # What it guarantees
//
// 200 is sent only after a PubAck for everything in the body (I1). Nothing
// unsigned or altered reaches the stream, and nothing after a good signature
// gets another answer than 200 or 503 (I10): Intuit holds back all later events
// of an app until the one it refused is accepted. So what verifies but cannot be
// read is not refused: it becomes a dead letter with its raw bytes. Memory and
// the number of requests in hand are bounded (I9), and a drain loses none of
// them (I13). Tokens and certificate are replaced while it runs, and no request
// notices ([Server.Reload]).
//
// # What it does not do
//
// It keeps no state and needs nothing but the broker: which realms are connected
// is the processor's to know, so that an outage of Redis does not stop the
// receiving. It does not decode a compressed body: Intuit sends none, and the
// signature is over the bytes as sent.
package ingress

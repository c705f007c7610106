// Package load sends signed webhooks to an ingress at a steady rate and measures
// the answers.
//
// # What it guarantees
//
// With a rate the load is open loop: the moment at which each request is due is
// fixed before the run, and its latency counts from that moment, also when the
// server was slow and every connection was busy. A server that stalls is so
// charged for every request that was due meanwhile, not for the one that it kept
// waiting (coordinated omission). Requests that came late for the generator's
// own sake are counted as Late: a run with many of those says little.
//
// Every body is different, signed, and shaped like Intuit's, so that no broker
// drops it as a duplicate. Equal seed and run id make equal bodies.
//
// It is cheap, as it shares the machine with what it measures: bodies are patched
// and signed in place, without garbage, and fasthttp sends them for less than half
// of the processor time of net/http's client.
//
// # What it does not do
//
// It sends nothing to an address that is not loopback unless it is told to, never
// sends a request again, speaks HTTP/1.1 only, and does not look at what became of
// the events behind the answer.
package load

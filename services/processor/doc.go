// Package processor takes envelopes from the stream, reads what changed from
// QuickBooks, and delivers it to the sinks. A webhook only says where to look:
// what is delivered is the state the API returns, an entity at a version.
//
// # The steps
//
// One step, one file, in this order:
//
//	decode    a message becomes units: one event, about one entity, for some sinks
//	coalesce  units of one entity become one item; items of one realm and entity
//	          type wait in a lane, which one goroutine works through, so that the
//	          changes of an entity are delivered in order
//	dedupe    units whose effect a sink has already, by its marks, fall away
//	hydrate   one Query reads up to 400 ids; judge says what the answer means for
//	          each unit: delivered, gone, not visible yet, never to be had. A
//	          webhook's deletion is a claim that this read confirms or refutes
//	follow    what one answer was not enough to conclude from is noted for the
//	          realm's next scan, which asks for it by id
//	write     each sink gets what it lacks, all sinks at the same time
//	mark      the marks move for the sinks that took it
//	settle    ack, retry queue, dead letter or nak: decided here and nowhere else
//
// # What it guarantees
//
// Each event of a message ends in one of four ways: a state at least as new as
// the event is at every sink it is for, or it is a dead letter with a reason, or
// it waits on the retry queue of the sinks that did not take it, or its realm is
// parked (see settle), or the record is left to a scan within minutes. Only then
// is the message acked. Versions at a sink never go back, unless a tombstone was
// wrong. A sink that fails or hangs holds up no other one.
//
// A crash costs repetition, never a change. What is lost between which steps:
//
//   - after write, before mark: the change is read and written once more, at the
//     same version and with the same idempotency key;
//   - after mark, before ack: the message comes again and is covered by the marks,
//     which costs no call;
//   - after a dead letter or a retry was published, before ack: that is published
//     once more; the broker drops it as a duplicate within two minutes.
//
// Without Redis nothing is read: there is no limiter to ask and there are no
// marks to compare with. Messages go back to the broker until it is there again.
//
// # A program of your own
//
// [ServeWith] runs the service with sinks that are compiled in, of which the
// simplest is a function: see [Handler].
//
// # What it does not do
//
// It does not find changes that no event told of; the reconciler does. It does
// not order changes of different entities. Across replicas two may write the same
// entity at the same time; the version guard of the sink decides then.
package processor

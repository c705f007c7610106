// Package stream is the JetStream side of the feed: the topology, the
// publisher, the consumers and the dead letters.
//
// # What it guarantees
//
// Publish returns nil only after the broker acknowledged every envelope (I1);
// any other outcome is [ErrNotDurable] and the caller must not say that it has
// them. A message leaves a queue only by Ack, which the broker confirms, or by
// Dead, which stores the dead letter first: a crash anywhere repeats a message
// and never loses one (I2). What is in flight is bounded in messages and bytes.
// Consumers survive a restart of the broker and the deletion of their durable.
//
// # What it does not do
//
// It does not order messages, and deduplicates only as an optimisation: the
// broker drops a repeated message id within two minutes. Whoever consumes must
// be idempotent. It does not set how often the broker syncs to disk, that is the
// server's configuration (see [Profile]).
package stream

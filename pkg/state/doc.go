// Package state keeps in Redis what the services share: marks, cursors, open
// scans, the schedule, leases and the limit on calls to Intuit.
//
// What it guarantees: marks and cursors only grow, whoever writes last; times
// that replicas must agree on are Redis's own; a retried command counts once.
// Losing Redis loses no change: without marks and cursors the feed delivers
// again what it delivered before. Everything works from an empty database. The counts
// of coverage are for people: an answer lost on the way may count twice.
//
// Every call has a deadline of its own and returns within it (Acquire, which
// waits its turn, aside). All keys are listed in keys.go; those of one realm
// share a Redis Cluster hash slot, and no script leaves its slot.
//
// What it does not do: it holds no tokens (package connection does), caches
// nothing, and starts no goroutine.
package state

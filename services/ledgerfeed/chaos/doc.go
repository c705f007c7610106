// Package chaos runs the real feed, as separate processes on loopback, while
// everything around it fails, and then judges whether it kept what it promises.
//
// # What runs
//
// Three nats-servers in a cluster, Redis with its files synced on every write (one server,
// one with TLS and a user for each service, a Redis Cluster, or a master with a replica and
// a Sentinel), PostgreSQL (in some runs behind PgBouncer, or with a standby), an endpoint
// that logs every delivery, a simulated QuickBooks, and two replicas each of ingress,
// processor and reconciler. Every link of a replica goes through a proxy of its own
// that can be slow, cut, deaf or lossy.
//
// # What it guarantees
//
//   - What happens is drawn from the seed: the changes, which fault comes when, for
//     how long, and to whom. When exactly a process is hit is up to the machine.
//   - A verdict rests on what QuickBooks changed, on what the endpoint and the
//     database took, and on the bytes that went by, never on what the feed says of
//     itself; the cursors are read from Redis, since they are what is judged.
//   - A run in which too little happened is no success.
//   - Every process it started ends with it.
//
// # What it does not do
//
// It needs the go tool and this repository: it builds what it runs. It cuts no
// power: a killed process leaves its file system as it was.
package chaos

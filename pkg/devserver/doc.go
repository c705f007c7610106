// Package devserver runs NATS and Redis inside this process, for `ledgerfeed
// dev` and for tests: nobody has to install a server to try Ledgerfeed.
//
// Both listen on the loopback interface only and keep what they acknowledged
// through a kill -9: NATS with JetStream's file store synced on every message,
// Redis (miniredis) behind an append-only journal of its own that is synced
// before a command is answered. They take no signals, write no logs and end
// when closed.
//
// They are not for production: no authentication, no replication, and this
// Redis knows only the commands Ledgerfeed uses.
package devserver

// Package dev runs the whole feed on one machine: NATS, Redis, a simulated
// QuickBooks that changes its books and posts webhooks about it, and the three
// services, in one process.
//
// What is in the data directory survives ctrl-C and kill -9: the next run goes
// on from it. One process at a time owns a directory. With Options.For a run
// ends with a proof: every sink is compared with the simulator's books, entity
// by entity.
//
// It is no way to run the services in production: everything ends together,
// and what it starts has no passwords.
package dev

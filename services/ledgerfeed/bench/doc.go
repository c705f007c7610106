// Package bench compares the services with a bare limit and with peers, on the
// same broker, in the same run.
//
// It is a module of its own, so that the peers' dependencies are nobody else's.
// Its measurements are tests: they need real servers, start processes, and fail
// if something that was answered is not stored. See docs/benchmarks.md for how
// to run them and what they have shown.
package bench

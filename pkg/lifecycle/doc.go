// Package lifecycle starts and stops a program: signals, the order in which
// its parts start and drain, and what its exit code means.
//
// It guarantees that the first SIGINT or SIGTERM only cancels a context, that a
// second one ends the process at once, that parts stop in the reverse of the
// order they were started in, and that no part can hold up the stop for longer
// than its bound.
//
// It does not restart what failed: the supervisor outside the process does.
package lifecycle

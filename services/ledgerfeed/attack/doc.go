// Package attack starts the services as processes and attacks them from outside, as a
// stranger, as the holder of a token of another app, as a viewer, and as a page in an
// operator's browser. Every attack has to fail. It holds tests only.
package attack

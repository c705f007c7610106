// Package access finds out whether Intuit refuses one call, a whole company or the app,
// and keeps everybody from calling while it does.
//
// # What it guarantees
//
// A company leaves [connection.Live] only after several calls of two kinds, spread over
// minutes, were refused, and after another company of the app was answered, if it has
// another. From then on all replicas of all services together make one call an hour for
// it; it is live and due for a scan as soon as one is answered. Where several companies of
// an app are refused and none is answered, the app is the problem: no company changes its
// state, one call every twenty seconds finds out when it is over, and everything goes on
// then.
//
// # What it does not do
//
// It starts no goroutine: whoever wants to call asks [Guard.Admit], and one of them makes
// the probe that is due. It does not say what an entity that is refused alone means, and
// refused refresh tokens are package connection's.
package access

package stream

import (
	"errors"
	"math/rand/v2"
	"time"
)

// A handler's error says what becomes of the message: nil is Ack, Permanent is
// a dead letter, everything else is Nak with a delay.

type permanentError struct {
	reason Reason
	err    error
}

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// Permanent marks err as one that trying again cannot mend: its message goes to
// the dead letters under reason. Permanent of a nil error is nil.
func Permanent(reason Reason, err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{reason: reason, err: err}
}

// AsPermanent reports whether err, or what it wraps, is Permanent, and why.
func AsPermanent(err error) (Reason, bool) {
	var p *permanentError
	if errors.As(err, &p) {
		return p.reason, true
	}
	return "", false
}

type retryAfterError struct {
	err   error
	delay time.Duration
}

func (e *retryAfterError) Error() string { return e.err.Error() }
func (e *retryAfterError) Unwrap() error { return e.err }

// RetryAfter marks err as one where the other side said when to come back.
// RetryAfter of a nil error is nil.
func RetryAfter(err error, d time.Duration) error {
	if err == nil {
		return nil
	}
	return &retryAfterError{err: err, delay: d}
}

// Delay is how long to wait before the next try of a message that was delivered
// that often: what RetryAfter says, but never less than Backoff's least, else
// Backoff.
func Delay(err error, delivered int) time.Duration { return DelayAtMost(err, delivered, backoffMost) }

// DelayAtMost is Delay with another bound on Backoff. What RetryAfter says stands:
// somebody asked for it.
func DelayAtMost(err error, delivered int, most time.Duration) time.Duration {
	if d, ok := AskedDelay(err); ok {
		return max(d, backoffFirst/2)
	}
	return min(Backoff(delivered), most)
}

// AskedDelay is what RetryAfter says, if it does.
func AskedDelay(err error) (d time.Duration, ok bool) {
	var r *retryAfterError
	if errors.As(err, &r) {
		return r.delay, true
	}
	return 0, false
}

const (
	backoffFirst = time.Second
	backoffMost  = 5 * time.Minute
)

// Backoff is the delay before the next try of a message that was delivered that
// often: it doubles from a second, with jitter so that what failed together
// does not come back together, and never exceeds five minutes.
func Backoff(delivered int) time.Duration {
	d := backoffMost
	if n := max(delivered, 1) - 1; n < 10 {
		d = min(backoffFirst<<n, backoffMost)
	}
	return d/2 + rand.N(d/2)
}

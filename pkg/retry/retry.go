// Package retry repeats what may succeed a little later, after pauses that double.
//
// It guarantees that the work is done at least once, never more often than Policy.Tries,
// and not begun again once the context has ended. It does not bound a single try: the work
// has to heed the context itself.
package retry

import (
	"cmp"
	"context"
	"errors"
	"math"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Policy is when to try again. First is required.
type Policy struct {
	// First is the pause after the first failure. It doubles after each further one, up to
	// Most; 0 is no bound.
	First, Most time.Duration
	// Jitter takes a random part, half of it at most, off each pause: what failed together
	// does not come back together.
	Jitter bool
	// Tries bounds how often the work is done; 0 is no bound.
	Tries int
	// Temporary tells the errors that a repetition may mend; nil is all of them.
	Temporary func(error) bool
	// Notify is told of each failure before the pause that follows it. It may be nil.
	Notify func(err error, pause time.Duration)
}

// Calls is the policy for calls of other systems: the pauses are a second to five minutes,
// with jitter.
func Calls(tries int, temporary func(error) bool) Policy {
	return Policy{First: time.Second, Most: 5 * time.Minute, Jitter: true, Tries: tries, Temporary: temporary}
}

// If makes a Policy.Temporary of one error.
func If(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

// Do does the work until it succeeds and returns the error of the last try. If ctx ends
// before a further try it returns the error of ctx.
func (p Policy) Do(ctx context.Context, work func() error) error {
	var last error
	tries, final := 0, false
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		last = work()
		tries++
		if final = tries == p.Tries || p.Temporary != nil && !p.Temporary(last); final && last != nil {
			return struct{}{}, backoff.Permanent(last)
		}
		return struct{}{}, last
	}, backoff.WithBackOff(p.pauses()), backoff.WithNotify(p.Notify), backoff.WithMaxElapsedTime(0))
	if err != nil && !final {
		return ctx.Err() // backoff returns its cause, which is the failure of something else
	}
	return last
}

func (p Policy) pauses() backoff.BackOff {
	b := &backoff.ExponentialBackOff{InitialInterval: p.First, Multiplier: 2, MaxInterval: cmp.Or(p.Most, math.MaxInt64)}
	if p.Jitter {
		// Three quarters and a third of that more or less: from a half to the whole.
		b.InitialInterval, b.MaxInterval, b.RandomizationFactor = b.InitialInterval/4*3, b.MaxInterval/4*3, 1.0/3
	}
	return b
}

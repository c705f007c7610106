package processor

import (
	"context"
	"errors"
	"iter"
	"math/bits"
	"slices"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// maxSinks is the size of a sinkSet.
const maxSinks = 64

// sinkSet is a set of sinks by their place in Processor.outputs.
type sinkSet uint64

func allSinks(n int) sinkSet { return 1<<n - 1 }

func (s sinkSet) has(i int) bool { return s&(1<<i) != 0 }

func (s sinkSet) with(i int) sinkSet { return s | 1<<i }

func (s sinkSet) without(i int) sinkSet { return s &^ (1 << i) }

func (s sinkSet) each() iter.Seq[int] {
	return func(yield func(int) bool) {
		for rest := uint64(s); rest != 0; rest &= rest - 1 {
			if !yield(bits.TrailingZeros64(rest)) {
				return
			}
		}
	}
}

// errSinkDown: the sink failed so often that it is left alone for a moment.
var errSinkDown = errors.New("the sink is down")

const (
	// After so many failures in a row a sink is left alone for so long; then one
	// write tries it. What is for it waits on its retry queue and costs no read.
	breakerFailures = 3
	breakerDelay    = 2 * time.Second
	// sharedTimeout bounds a write while the batch is for other sinks too, and its lane
	// waits. A sink that is slower gets it from its retry queue, in its own time.
	sharedTimeout = 5 * time.Second
)

// output is a sink behind a deadline and a circuit breaker: without it every
// batch would wait for the deadline of a sink that hangs, the batches of the
// other sinks too.
type output struct {
	Sink
	filter  filter
	timeout time.Duration
	breaker circuitbreaker.CircuitBreaker[any]
	paused  atomic.Bool // by a person, see pause
	health  health
	told    bool  // that it is down, by tellHealth alone
	counted int64 // documents in which characters were replaced, by tellSanitized alone
}

func newOutput(s Sink, f filter, timeout time.Duration, log *zap.Logger) *output {
	return &output{
		Sink: s, filter: f, timeout: timeout,
		breaker: circuitbreaker.NewBuilder[any]().WithFailureThreshold(breakerFailures).WithDelay(breakerDelay).Build(),
		health:  health{log: log.With(telemetry.Sink(s.Name())), now: time.Now},
	}
}

// down reports whether a write would not even be tried.
func (o *output) down() bool {
	return o.paused.Load() || o.breaker.IsOpen() && o.breaker.RemainingDelay() > 0
}

func (o *output) write(ctx context.Context, changes []*ledgerfeedv1.Change, shared bool) error {
	if o.paused.Load() || !o.breaker.TryAcquirePermit() {
		return errSinkDown
	}
	timeout := o.timeout
	if shared {
		timeout = min(timeout, sharedTimeout)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := o.health.judge(changes, o.Write(ctx, changes))
	switch {
	case took(err):
		o.breaker.RecordSuccess()
		o.health.took()
	case !answered(err):
		o.breaker.RecordFailure()
		o.health.failed(firstOf(err), o.breaker.IsOpen())
	case o.health.refusesAll():
		o.breaker.RecordFailure()
	default:
		o.breaker.RecordSuccess()
	}
	return err
}

// took reports whether the sink took a change.
func took(err error) bool {
	var partial *sink.PartialError
	return err == nil || errors.As(err, &partial) && slices.Contains(partial.Errs, nil)
}

// answered reports whether the sink works: it took a change, or refused it for
// good, which is an answer too.
func answered(err error) bool {
	var partial *sink.PartialError
	if errors.As(err, &partial) {
		return slices.ContainsFunc(partial.Errs, answered)
	}
	_, permanent := stream.AsPermanent(err)
	return err == nil || permanent
}

// state is the breaker's: 0 closed, 1 half open, 2 open; 3 is paused.
func (o *output) state() float64 {
	switch {
	case o.paused.Load():
		return 3
	case o.down():
		return 2
	case o.breaker.IsClosed():
		return 0
	}
	return 1
}

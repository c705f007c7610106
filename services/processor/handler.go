package processor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// Handler is told of each change, for those who compile a program of their own:
// see [HandlerSink] and [ServeWith]. It must not modify the change.
//
// It is called from several goroutines, within one process never for one entity
// by two of them at a time, and must return when ctx ends, WriteTimeout after the
// batch of the change began: until it does, other changes of its realm and entity
// type wait.
//
// What it returns says what becomes of that change, and of no other one:
//
//   - nil: it is taken, and will not come again but after a crash.
//   - [stream.Permanent]: it is never to be taken. It becomes a dead letter.
//   - anything else, and a panic: it comes again, ever later, or when a
//     [stream.RetryAfter] says. If all of three batches in a row fail, the handler
//     is left alone for a moment.
//
// The text of an error, and what it panics with, is logged and kept in the dead
// letter: it must hold no secret.
//
// A change that comes again may be newer by then: it is a state, never a diff.
// The same version may come twice, and with several replicas an older one after a
// newer one. Compare it with what is kept beside the effect, in one transaction:
// [sink.Record.Supersedes] is the rule. The idempotency key is sink.KeyOf(c).
type Handler func(ctx context.Context, c *ledgerfeedv1.Change) error

// HandlerSink is a sink that calls h. The name stands for what h keeps, as that
// of every sink does for its place: under a new name everything is loaded from
// the beginning.
func HandlerSink(name string, h Handler) Sink { return &handlerSink{name: name, handle: h} }

type handlerSink struct {
	name   string
	handle Handler
	closed atomic.Bool
}

// handlerParallel is how many changes of one batch are handled at a time. A
// handler that waits for another server would else spend WriteTimeout on a few.
const handlerParallel = 16

var (
	errHandlerClosed = errors.New("handler sink: closed")
	errHandlerGone   = errors.New("the handler did not return")
	errNoJSON        = errors.New("the document is not JSON")
)

func (s *handlerSink) Name() string { return s.name }

// Close makes later writes fail. It does not wait for one under way.
func (s *handlerSink) Close() error {
	s.closed.Store(true)
	return nil
}

// Write gives each change to the handler; a *sink.PartialError says which it has
// not taken.
func (s *handlerSink) Write(ctx context.Context, changes []*ledgerfeedv1.Change) error {
	if s.closed.Load() {
		return errHandlerClosed
	}
	errs := make([]error, len(changes))
	var g errgroup.Group
	g.SetLimit(handlerParallel)
	for i, c := range changes {
		errs[i] = errHandlerGone // stands after runtime.Goexit, which t.FailNow calls, too
		g.Go(func() error {
			errs[i] = s.call(ctx, c)
			return nil
		})
	}
	_ = g.Wait() // the outcomes are in errs
	return sink.Partial(errs)
}

func (s *handlerSink) call(ctx context.Context, c *ledgerfeedv1.Change) (err error) {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("not handled in time: %w", err)
	}
	if doc := c.GetDocument(); len(doc) > 0 && !json.Valid(doc) {
		return stream.Permanent(stream.ReasonSinkRefused, errNoJSON)
	}
	// A panic must not end the replica, whose other sinks have done nothing wrong.
	// It is tried again like any error: the next build may have mended it.
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the handler panicked: %v at %s", v, panickedAt())
		}
	}()
	return s.handle(ctx, c)
}

// panickedAt is the line of the handler that panicked. It is called by the
// function deferred.
func panickedAt() string {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	for {
		f, more := frames.Next()
		if !strings.HasPrefix(f.Function, "runtime.") || !more {
			return fmt.Sprintf("%s:%d", f.File, f.Line)
		}
	}
}

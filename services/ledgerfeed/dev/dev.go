package dev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// Run starts everything and blocks until ctx ends or, with Options.For, until
// the sinks were compared. Then it drains in the order of the flow. It returns
// an error if a part failed, if a sink differs from the books, or if ctx ended
// before the comparison.
func Run(ctx context.Context, o Options) error {
	o = o.on(devserver.Loopback())
	out := o.Stdout
	if o.JSON {
		out = o.Stderr
	}
	term, logTo := newTerminal(out), newTerminal(o.Stderr)
	if term.live && logTo.live {
		logTo = term // one screen, one live line
	}
	log, err := telemetry.NewLogger(o.Log, logTo)
	if err != nil {
		return lifecycle.Usage(err)
	}

	ctx, finish := context.WithCancelCause(ctx)
	defer finish(nil)
	f, err := wire(ctx, o, term, log)
	if err != nil {
		err = errors.Join(err, f.close())
		if ctx.Err() != nil && o.For > 0 {
			return &interruptedError{cause: context.Cause(ctx)}
		}
		return err
	}
	f.announce()

	// Added last, so stopped first: no change is made while the rest drains.
	f.group.Go("load", func(ctx context.Context) error {
		err := f.prove(ctx)
		if err == nil {
			finish(errProved)
		}
		return err
	})
	err = f.group.Run(ctx)
	term.EndLive()
	return f.report(ctx, err)
}

// errProved ends a run with Options.For in good order.
var errProved = errors.New("compared")

// report tells how the run ended; err is what went wrong while it ran or drained.
func (f *feed) report(ctx context.Context, err error) error {
	proved := context.Cause(ctx) == errProved //nolint:errorlint // a sentinel of this file
	switch {
	case proved:
		return errors.Join(err, f.conclude())
	case err != nil:
		return err
	}
	f.term.Printf("stopped after %s: %d changes made, %d delivered; the same command goes on from here",
		time.Since(f.o.Started).Round(time.Second), f.load.made.Load(), f.counts().delivered)
	if f.o.For > 0 {
		return &interruptedError{cause: context.Cause(ctx)}
	}
	return nil
}

// conclude prints the summary and fails if a sink differs.
func (f *feed) conclude() error {
	s := &f.summary
	s.ElapsedMS = time.Since(f.o.Started).Milliseconds()
	if s.Equal() {
		f.term.Printf("every sink equals QuickBooks: %d entities of %d realms", s.Changes, s.Realms)
	}
	if err := s.print(f.o.Stdout); err != nil {
		return err
	}
	if !s.Equal() {
		return fmt.Errorf("the sinks differ from QuickBooks: %s", s.differences())
	}
	return nil
}

// interruptedError ends a run that was to compare and could not.
type interruptedError struct{ cause error }

func (e *interruptedError) Error() string {
	return "interrupted before --for was over: nothing was compared"
}

func (e *interruptedError) Unwrap() error { return e.cause }

// ExitCode is 128 + n, as a shell reports a program that signal n ended.
func (e *interruptedError) ExitCode() int {
	var se *lifecycle.SignalError
	if !errors.As(e.cause, &se) {
		return lifecycle.ExitFailed
	}
	switch se.Signal {
	case os.Interrupt:
		return 128 + int(syscall.SIGINT)
	case syscall.SIGTERM:
		return 128 + int(syscall.SIGTERM)
	}
	return lifecycle.ExitFailed
}

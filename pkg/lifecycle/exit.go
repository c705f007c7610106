package lifecycle

import (
	"context"
	"errors"
	"fmt"
)

// Exit codes of every program. A second signal exits 128 plus its number.
const (
	ExitOK          = 0 // done, or drained after a signal
	ExitFailed      = 1 // an error that is none of those below
	ExitUsage       = 2 // wrong flags or configuration: trying again will not help
	ExitUnreachable = 3 // a server this program needs does not answer: trying again may help
)

// exitError carries the exit code an error asks for.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }
func (e *exitError) ExitCode() int { return e.code }

// Usage marks err as wrong use or wrong configuration ([ExitUsage]). Usage of
// nil is nil.
func Usage(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code: ExitUsage, err: err}
}

// Unreachable marks err as a server at address that does not answer
// ([ExitUnreachable]); the text names the address, so it must hold no
// password. An empty address adds no text, for an err that names it already.
// Unreachable of a nil error is nil.
func Unreachable(address string, err error) error {
	switch {
	case err == nil:
		return nil
	case address == "":
		return &exitError{code: ExitUnreachable, err: err}
	}
	return &exitError{code: ExitUnreachable, err: fmt.Errorf("%s does not answer: %w", address, err)}
}

// ExitCode is the code to exit with after err: that of the outermost error in
// the chain with a method ExitCode() int, [ExitOK] for nil and for a cancelled
// context (that is how a drained program ends), else [ExitFailed].
func ExitCode(err error) int {
	var coded interface{ ExitCode() int }
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &coded):
		return coded.ExitCode()
	case onlyCancelled(err):
		return ExitOK
	default:
		return ExitFailed
	}
}

// onlyCancelled reports whether err says nothing but that its context ended. A
// joined error in which one part is a real failure is not that.
func onlyCancelled(err error) bool {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			if !onlyCancelled(e) {
				return false
			}
		}
		return true
	}
	if inner := errors.Unwrap(err); inner != nil {
		return onlyCancelled(inner)
	}
	return errors.Is(err, context.Canceled)
}

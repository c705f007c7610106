package stream

import (
	"context"
	"errors"
	"net/http"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Errors of this package, for errors.Is.
var (
	// ErrUnreachable: no server answers at the configured address.
	ErrUnreachable = errors.New("NATS is unreachable")
	// ErrNotDurable: at least one message was not acknowledged. It may be on the
	// stream all the same; publish it again under the same id.
	ErrNotDurable = errors.New("not acknowledged by the broker")
	// ErrFull: the stream has reached its size, or the server its disk's. Wrapped
	// in ErrNotDurable.
	ErrFull = errors.New("stream is full")
	// ErrTooLarge: the server takes no message of that size, now or later.
	// Wrapped in ErrNotDurable.
	ErrTooLarge = errors.New("message exceeds the size limit of the server")
	// ErrNotSetUp: a stream, a consumer or a table is missing or differs, and the settings
	// leave it to a command to make it.
	ErrNotSetUp = errors.New("not set up yet, run `ledgerfeed setup`")
	// ErrClosed: the connection was closed.
	ErrClosed = errors.New("connection closed")
)

// Temporary reports whether an error of a start passes without anybody doing anything: no
// server answers, a cluster has no leader just now, or the setup job has not run yet.
func Temporary(err error) bool {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return api.Code == http.StatusServiceUnavailable
	}
	for _, passing := range []error{ErrUnreachable, ErrNotSetUp, context.DeadlineExceeded, nats.ErrTimeout, nats.ErrNoResponders, nats.ErrDisconnected, nats.ErrConnectionReconnecting} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}

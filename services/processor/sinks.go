package processor

import (
	"context"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// Sink is where changes go. Write may be called from several goroutines at
// once, but never for one entity by two of them.
type Sink interface {
	// Name is the sink's name in the marks and in the retry queue. It stands for
	// the place written to: another place is another sink.
	Name() string
	// Write stores changes, at most one of an entity in a call. nil means that
	// all of them will survive a crash. An error that is stream.Permanent says
	// that at least one of them will never be taken; any other is tried again.
	// A change that is older than the one held, or the same, changes nothing.
	Write(ctx context.Context, changes []*ledgerfeedv1.Change) error
	Close() error
}

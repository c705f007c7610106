package state

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
)

// Try is one ask of Acquire, for tests whose clock is not the real one.
func (l *Limiter) Try(ctx context.Context, realm string, p qbo.Priority, id string) (time.Duration, error) {
	return l.try(ctx, realm, p, id)
}

// Forget ends what Try was granted.
func (l *Limiter) Forget(ctx context.Context, realm, id string) {
	l.hold(ctx, realm, id).giveBack(false)
}

// SetNow gives the store another clock, in place of Redis's too.
func SetNow(s *Store, now func() time.Time) { s.now, s.clock = now, now }

// SetAging is how long a backfill gives way to live calls.
func (l *Limiter) SetAging(d time.Duration) { l.aging = d }

// LookForProblems is one look of WatchServer.
func (s *Store) LookForProblems(ctx context.Context, log *zap.Logger, found func(map[string]int), known map[string]bool) map[string]bool {
	return s.lookForProblems(ctx, log, found, known)
}

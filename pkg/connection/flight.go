package connection

import (
	"context"
	"fmt"
	"sync/atomic"

	"golang.org/x/sync/singleflight"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// flight is what a refresh came to that several callers may have waited for.
type flight struct {
	token secret.String
	// abandoned: the caller that did the work gave up, which says nothing about it.
	abandoned bool
}

// share makes a refresh or waits for the one under way: while Intuit does not answer, one
// caller of this process finds out, not each in turn. The one under way may have read the
// token before it became useless, so that it is no answer to this caller.
func (s *Store) share(ctx context.Context, realm string, useless secret.String) (secret.String, error) {
	for {
		var mine atomic.Bool
		done := s.flights.DoChan(realm, func() (any, error) {
			mine.Store(true)
			if err := ctx.Err(); err != nil {
				return flight{abandoned: true}, fmt.Errorf("refresh the token of realm %s: %w", realm, err)
			}
			token, err := s.refresh(ctx, realm, demand{})
			return flight{token, err != nil && ctx.Err() != nil}, err
		})
		var result singleflight.Result
		select {
		case result = <-done:
		case <-ctx.Done():
			if !mine.Load() {
				return "", fmt.Errorf("wait for the refresh of realm %s: %w", realm, ctx.Err())
			}
			// The answer may be the only valid token: a process that stops must not leave
			// before it is stored.
			result = <-done
		}
		f := result.Val.(flight)
		if mine.Load() || !f.abandoned && (result.Err != nil || f.token != useless) {
			return f.token, result.Err
		}
	}
}

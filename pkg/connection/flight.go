package connection

import (
	"context"
	"fmt"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// flight is a refresh that several callers of this process wait for: while
// Intuit does not answer, one of them finds out, not each in turn.
type flight struct {
	done chan struct{} // closed at its end, then the rest is readable
	// abandoned: the caller that did the work gave up, which says nothing about it.
	abandoned bool
	token     secret.String
	err       error
}

// share makes a refresh or waits for the one under way. That one may have read
// the token before it became useless, so that it is no answer to this caller.
func (s *Store) share(ctx context.Context, realm string, useless secret.String) (secret.String, error) {
	for {
		f, mine := s.board(realm)
		if mine {
			s.fly(ctx, realm, f)
			return f.token, f.err
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("wait for the refresh of realm %s: %w", realm, ctx.Err())
		case <-f.done:
		}
		if !f.abandoned && (f.err != nil || f.token != useless) {
			return f.token, f.err
		}
	}
}

func (s *Store) board(realm string) (f *flight, mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f, ok := s.flights[realm]; ok {
		return f, false
	}
	f = &flight{done: make(chan struct{})}
	s.flights[realm] = f
	return f, true
}

func (s *Store) fly(ctx context.Context, realm string, f *flight) {
	f.abandoned = true // if the Refresher panics
	defer func() {
		s.mu.Lock()
		delete(s.flights, realm)
		s.mu.Unlock()
		close(f.done)
	}()
	f.token, f.err = s.refresh(ctx, realm, demand{})
	f.abandoned = f.err != nil && ctx.Err() != nil
}

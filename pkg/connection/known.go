package connection

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// knownFor is how old an answer of Known may be.
	knownFor = 2 * time.Second
	// maxKnown bounds its memory: anybody's realm id may be asked for.
	maxKnown = 10000
)

// known is an answer of Known; no state is "not connected".
type known struct {
	state State
	at    time.Time
}

// Known returns a realm's state, as it was at most two seconds ago by the real
// clock, or an error that wraps [ErrNotConnected] if it never was connected. It
// needs no key and is made to be asked for every message.
func (s *Store) Known(ctx context.Context, realm string) (State, error) {
	s.mu.Lock()
	k, ok := s.known[realm]
	s.mu.Unlock()
	if !ok || time.Since(k.at) >= knownFor {
		var err error
		if k, err = s.lookUp(ctx, realm); err != nil {
			return "", fmt.Errorf("read the state of realm %s: %w", realm, err)
		}
		s.mu.Lock()
		if len(s.known) >= maxKnown {
			clear(s.known)
		}
		s.known[realm] = k
		s.mu.Unlock()
	}
	if k.state == "" {
		return "", fmt.Errorf("realm %s: %w", realm, ErrNotConnected)
	}
	return k.state, nil
}

func (s *Store) lookUp(ctx context.Context, realm string) (known, error) {
	at := time.Now() // before the question: the answer is at least that fresh
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	text, err := s.db.HGet(ctx, connKey(realm), fieldState).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return known{}, err
	}
	return known{State(text), at}, nil
}

func (s *Store) forgetKnown(realm string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, realm)
}

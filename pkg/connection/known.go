package connection

import (
	"context"
	"fmt"
	"time"
)

const (
	// knownFor is how old an answer of Known may be.
	knownFor = 2 * time.Second
	// maxKnown bounds its memory: anybody's realm id may be asked for.
	maxKnown = 10000
)

// known is an answer of Known; no state is "not connected".
type known struct {
	Admission
	at time.Time
}

// Admission is what decides whether calls about a realm may be made.
type Admission struct {
	State State
	App   string
	// Suspected: Intuit has refused calls about the realm, and it is not known yet
	// whether it refuses all.
	Suspected bool
	// Next is when Intuit is asked again about a realm that it refuses, or may.
	Next time.Time
}

// Known returns a realm's state, as it was at most two seconds ago by the real
// clock, or an error that wraps [ErrNotConnected] if it never was connected. It
// needs no key and is made to be asked for every message.
func (s *Store) Known(ctx context.Context, realm string) (State, error) {
	a, err := s.Admission(ctx, realm)
	return a.State, err
}

// Admission is Known with what else decides whether calls may be made.
func (s *Store) Admission(ctx context.Context, realm string) (Admission, error) {
	s.mu.Lock()
	k, ok := s.known[realm]
	s.mu.Unlock()
	if !ok || time.Since(k.at) >= knownFor {
		var err error
		if k, err = s.lookUp(ctx, realm); err != nil {
			return Admission{}, fmt.Errorf("read the state of realm %s: %w", realm, err)
		}
		s.mu.Lock()
		if len(s.known) >= maxKnown {
			clear(s.known)
		}
		s.known[realm] = k
		s.mu.Unlock()
	}
	switch k.State {
	case erased:
		return Admission{}, fmt.Errorf("realm %s: %w", realm, ErrErased)
	case "":
		return Admission{}, fmt.Errorf("realm %s: %w", realm, ErrNotConnected)
	}
	return k.Admission, nil
}

func (s *Store) lookUp(ctx context.Context, realm string) (known, error) {
	at := time.Now() // before the question: the answer is at least that fresh
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	values, err := s.db.HMGet(ctx, connKey(realm), fieldState, fieldApp, fieldRefusedSince, fieldRefusedNext).Result()
	if err != nil {
		return known{}, err
	}
	text := make([]string, len(values))
	for i, v := range values {
		text[i], _ = v.(string) // nothing: not set
	}
	a := Admission{State: State(text[0]), App: text[1], Next: fromMillis(text[3])}
	a.Suspected = a.State == Live && text[2] != ""
	return known{a, at}, nil
}

func (s *Store) forgetKnown(realm string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, realm)
}

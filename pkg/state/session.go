package state

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// sessionsKey holds a text that changes when all sessions end.
func sessionsKey() string { return Key("console", "sessions") }

func sessionKey(name string) string { return ephemeralKey("session", name) }

// SaveSession stores a session of the console, which ends when it is not read for so long.
// The value is the console's; it must not trust what it reads again.
func (s *Store) SaveSession(ctx context.Context, name, value string, idle time.Duration) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	return s.unreachable("save session", s.db.Set(ctx, sessionKey(name), value, idle).Err())
}

// Session returns a session, empty if there is none, and the generation of now. It restarts
// the idle time, unless that is 0.
func (s *Store) Session(ctx context.Context, name string, idle time.Duration) (value, generation string, err error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	pipe := s.db.Pipeline()
	stored := pipe.Get(ctx, sessionKey(name))
	if idle > 0 {
		stored = pipe.GetEx(ctx, sessionKey(name), idle)
	}
	current := pipe.Get(ctx, sessionsKey())
	_, _ = pipe.Exec(ctx) // each command has its error
	err = s.unreachable("read session", errors.Join(missing(stored.Err()), missing(current.Err())))
	return stored.Val(), current.Val(), err
}

// SessionGeneration is empty until all sessions were ended once. A session of another
// generation has ended.
func (s *Store) SessionGeneration(ctx context.Context) (string, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	generation, err := s.db.Get(ctx, sessionsKey()).Result()
	return generation, s.unreachable("read generation of sessions", missing(err))
}

// EndSession ends one; it is no error if there is none.
func (s *Store) EndSession(ctx context.Context, name string) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	return s.unreachable("end session", s.db.Del(ctx, sessionKey(name)).Err())
}

// EndSessions ends the sessions of all consoles of the feed.
func (s *Store) EndSessions(ctx context.Context) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	return s.unreachable("end all sessions", s.db.Set(ctx, sessionsKey(), rand.Text(), 0).Err())
}

// missing takes a key that is not there for no error.
func missing(err error) error {
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return err
}

func (s *Store) unreachable(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w at %s: %w", what, ErrUnreachable, s.address, err)
}

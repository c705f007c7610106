package state

import (
	"context"
	_ "embed"
	"fmt"
	"time"
)

// ClockLua is what scripts that need the time begin with, also those of packages with
// keys of their own: clock(ARGV of [Store.ClockArg]) is the time in ms, and text(number)
// spells one.
//
//go:embed clock.lua
var ClockLua string

// Now is the clock that all replicas share: Redis's, or the one a test has set.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	if s.clock != nil {
		return s.clock(), nil
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	now, err := s.db.Time(ctx).Result()
	if err != nil {
		return time.Time{}, fmt.Errorf("read the clock of Redis: %w", err)
	}
	return now.UTC(), nil
}

// ClockArg is what such a script is given: empty, so that it asks Redis, but in tests
// that set a clock.
func (s *Store) ClockArg() string {
	if s.clock == nil {
		return ""
	}
	return fmt.Sprint(s.clock().UnixMilli())
}

package state

import (
	"context"
	"fmt"
	"slices"
)

// PauseSink has processors write nothing more to a sink, within some seconds: what is
// for it waits on its retry queue.
func (s *Store) PauseSink(ctx context.Context, sink string) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := s.db.SAdd(ctx, durable+"paused", sink).Err(); err != nil {
		return fmt.Errorf("pause sink %s: %w", sink, err)
	}
	return nil
}

// ResumeSink takes PauseSink back. A sink that is not paused is no error.
func (s *Store) ResumeSink(ctx context.Context, sink string) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := s.db.SRem(ctx, durable+"paused", sink).Err(); err != nil {
		return fmt.Errorf("resume sink %s: %w", sink, err)
	}
	return nil
}

// PausedSinks returns the sinks that are paused, sorted.
func (s *Store) PausedSinks(ctx context.Context) ([]string, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	names, err := s.db.SMembers(ctx, durable+"paused").Result()
	if err != nil {
		return nil, fmt.Errorf("list paused sinks: %w", err)
	}
	slices.Sort(names)
	return names, nil
}

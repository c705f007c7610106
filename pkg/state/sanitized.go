package state

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// AddSanitized counts documents that a sink stored with characters replaced.
func (s *Store) AddSanitized(ctx context.Context, sink string, n int64) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := s.db.HIncrBy(ctx, durable+"sanitized", sink, n).Err(); err != nil {
		return fmt.Errorf("count sanitized documents of sink %s: %w", sink, err)
	}
	return nil
}

// Sanitized is how many documents a sink stored with characters replaced, each time one was.
func (s *Store) Sanitized(ctx context.Context, sink string) (int64, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	n, err := s.db.HGet(ctx, durable+"sanitized", sink).Int64()
	if err != nil && !errors.Is(err, redis.Nil) {
		return 0, fmt.Errorf("read sanitized documents of sink %s: %w", sink, err)
	}
	return n, nil
}

package state

import (
	"context"
	"fmt"
)

// maxQueuedActions is how many actions wait for the broker at most.
const maxQueuedActions = 10000

var errActionsFull = fmt.Errorf("%d actions are queued already", maxQueuedActions)

// QueueAction keeps an action, as text, that could not be stored on the broker.
func (s *Store) QueueAction(ctx context.Context, text string) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	n, err := s.db.LLen(ctx, durable+"actionqueue").Result()
	if err == nil && n >= maxQueuedActions {
		err = errActionsFull
	}
	if err == nil {
		err = s.db.RPush(ctx, durable+"actionqueue", text).Err()
	}
	if err != nil {
		return fmt.Errorf("queue action: %w", err)
	}
	return nil
}

// QueuedActions returns the oldest n that wait.
func (s *Store) QueuedActions(ctx context.Context, n int) ([]string, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	texts, err := s.db.LRange(ctx, durable+"actionqueue", 0, int64(n-1)).Result()
	if err != nil {
		return nil, fmt.Errorf("read queued actions: %w", err)
	}
	return texts, nil
}

// DequeueAction removes one that is stored by now; another process may have done so.
func (s *Store) DequeueAction(ctx context.Context, text string) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := s.db.LRem(ctx, durable+"actionqueue", 1, text).Err(); err != nil {
		return fmt.Errorf("remove queued action: %w", err)
	}
	return nil
}

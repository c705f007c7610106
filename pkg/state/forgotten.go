package state

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Forgotten reports whether Redis may have lost something since [Store.Remembered] was
// last called: it is another process (its run_id), or does not know of that call any more.
// A restart that lost nothing looks the same as one that did. life is what to give to
// Remembered; it is empty where the server does not say its run_id, and only the loss of
// everything shows then.
func (s *Store) Forgotten(ctx context.Context) (life string, forgotten bool, err error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	known, err := s.db.Get(ctx, durable+"life").Result()
	absent := errors.Is(err, redis.Nil)
	if err == nil || absent {
		life, err = s.life(ctx)
	}
	if err != nil {
		return "", false, fmt.Errorf("ask Redis whether it remembers: %w", err)
	}
	return life, absent || life != known, nil
}

// Remembered notes that what Redis may have lost is there again, as far as somebody else
// knew it. life is of the call of Forgotten before that.
func (s *Store) Remembered(ctx context.Context, life string) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := s.db.Set(ctx, durable+"life", life, 0).Err(); err != nil {
		return fmt.Errorf("note that Redis remembers: %w", err)
	}
	return nil
}

// life are the run_ids of all servers that take writes, sorted.
func (s *Store) life(ctx context.Context) (string, error) {
	var mu sync.Mutex
	var ids []string
	ask := func(ctx context.Context, c redis.Cmdable) error {
		text, err := c.Info(ctx, "server").Result()
		var refused redis.Error
		if err != nil && !errors.As(err, &refused) {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		ids = append(ids, runID(text))
		return nil
	}
	var err error
	if cluster, ok := s.db.(*redis.ClusterClient); ok {
		err = cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error { return ask(ctx, c) })
	} else {
		err = ask(ctx, s.db)
	}
	slices.Sort(ids)
	return strings.Join(ids, ","), err
}

func runID(info string) string {
	for line := range strings.Lines(info) {
		if id, ok := strings.CutPrefix(strings.TrimSpace(line), "run_id:"); ok {
			return id
		}
	}
	return ""
}

package state

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// maxActions is how many actions are kept, the newest.
const maxActions = 10000

// Action is something that a person did to the feed.
type Action struct {
	ID   string    `json:"id"` // unique
	At   time.Time `json:"at"`
	Who  string    `json:"who"`
	Role string    `json:"role"`
	// What was done ("requeue dead letters") and On what ("sink crm").
	What string `json:"what"`
	On   string `json:"on,omitempty"`
	// Outcome is "done", or why it was not.
	Outcome string `json:"outcome"`
}

// LogAction adds to the log of actions. Nothing in it is ever changed; the oldest
// leave it when there are more than 10,000.
func (s *Store) LogAction(ctx context.Context, a Action) error {
	text, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("encode action: %w", err)
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	pipe := s.db.TxPipeline()
	pipe.ZAdd(ctx, durable+"actions", redis.Z{Score: float64(a.At.UnixMilli()), Member: text})
	pipe.ZRemRangeByRank(ctx, durable+"actions", 0, -maxActions-1)
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("log action: %w", err)
	}
	return nil
}

// Actions returns the newest n actions, newest first, leaving out the newest skip.
func (s *Store) Actions(ctx context.Context, skip, n int) ([]Action, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	texts, err := s.db.ZRevRange(ctx, durable+"actions", int64(skip), int64(skip+n-1)).Result()
	if err != nil {
		return nil, fmt.Errorf("read actions: %w", err)
	}
	actions := make([]Action, len(texts))
	for i, text := range texts {
		if err := json.Unmarshal([]byte(text), &actions[i]); err != nil {
			return nil, fmt.Errorf("decode action: %w", err)
		}
	}
	return actions, nil
}

package state

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// mergesKept is how long a merge is kept after it was last told of. QuickBooks may show the
// record that was merged away for days; who knows of a longest time has not published it.
const mergesKept = 90 * 24 * time.Hour

func mergeKey(realm string, ref Ref) string {
	return Key("merged", realm) + ":" + pairField(ref.Entity, ref.ID)
}

// NoteMerges records into which record others were merged, for the tombstones to come: a
// record that was merged away may stay readable for days. Each is kept for 90 days.
func (s *Store) NoteMerges(ctx context.Context, realm string, into map[Ref]string) error {
	if len(into) == 0 {
		return nil
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	_, err := s.db.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for ref, survivor := range into {
			pipe.Set(ctx, mergeKey(realm, ref), survivor, mergesKept)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("note %d merges of realm %s: %w", len(into), realm, err)
	}
	return nil
}

// Merges returns the id that each of the records was merged into; empty for one of which
// no merge is known.
func (s *Store) Merges(ctx context.Context, realm string, refs []Ref) ([]string, error) {
	into := make([]string, len(refs))
	for done := 0; done < len(refs); done += batch {
		part := refs[done:min(done+batch, len(refs))]
		if err := s.merges(ctx, realm, part, into[done:]); err != nil {
			return nil, fmt.Errorf("read the merges of realm %s: %w", realm, err)
		}
	}
	return into, nil
}

func (s *Store) merges(ctx context.Context, realm string, refs []Ref, into []string) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	keys := make([]string, len(refs))
	for i, ref := range refs {
		keys[i] = mergeKey(realm, ref)
	}
	values, err := s.db.MGet(ctx, keys...).Result()
	if err != nil {
		return err
	}
	for i, v := range values {
		into[i], _ = v.(string)
	}
	return nil
}

package state

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// Cursors returns a realm's cursors by entity: every change up to that time, by
// Intuit's clock, was delivered or is a dead letter. An entity without one was
// never scanned to the end.
func (s *Store) Cursors(ctx context.Context, realm string) (map[string]time.Time, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	zs, err := s.db.ZRangeWithScores(ctx, Key("cur", realm), 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("read cursors of realm %s: %w", realm, err)
	}
	cursors := make(map[string]time.Time, len(zs))
	for _, z := range zs {
		cursors[z.Member.(string)] = fromScore(z.Score)
	}
	return cursors, nil
}

// AdvanceCursors moves cursors forward, never back. They have whole seconds: a
// fraction is cut off, which makes the next scan start a little earlier.
func (s *Store) AdvanceCursors(ctx context.Context, realm string, to map[string]time.Time) error {
	members := make([]redis.Z, 0, len(to))
	for entity, t := range to {
		if t.Unix() <= 0 {
			continue // no time
		}
		members = append(members, redis.Z{Score: float64(t.Unix()), Member: entity})
	}
	if len(members) == 0 {
		return nil
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	args := redis.ZAddArgs{GT: true, Ch: true, Members: members}
	if err := s.db.ZAddArgs(ctx, Key("cur", realm), args).Err(); err != nil {
		return fmt.Errorf("advance cursors of realm %s: %w", realm, err)
	}
	return nil
}

// RewindCursors moves cursors back because a person asked, those of all
// entities if entities is nil. It never moves one forward, nor makes one. A
// zero time forgets them: the next scan loads everything. The realm's open
// scans are dropped, since verifying one would undo it; a scan under way must
// be kept from saving itself by the caller (it holds the realm's lease). How far
// loads have come and the realm's [Pace] are forgotten too: the next scan covers
// everything.
func (s *Store) RewindCursors(ctx context.Context, realm string, entities []string, to time.Time) error {
	if entities == nil {
		cursors, err := s.Cursors(ctx, realm)
		if err != nil {
			return err
		}
		for e := range cursors {
			entities = append(entities, e)
		}
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	pipe := s.db.TxPipeline()
	pipe.Del(ctx, Key("scan", realm), Key("loaded", realm), Key("pace", realm))
	for _, e := range entities {
		if to.IsZero() {
			pipe.ZRem(ctx, Key("cur", realm), e)
			continue
		}
		back := redis.ZAddArgs{XX: true, LT: true, Members: []redis.Z{{Score: float64(to.Unix()), Member: e}}}
		pipe.ZAddArgs(ctx, Key("cur", realm), back)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("rewind cursors of realm %s: %w", realm, err)
	}
	return nil
}

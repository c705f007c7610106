package state

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// Progress is how far the feed of a realm is, for lists of many.
type Progress struct {
	// Cursors are as [Store.Cursors] returns them.
	Cursors map[string]time.Time
	// Scans is how many scans are not verified yet.
	Scans int
	// Loading is how many entities are being loaded.
	Loading int
	// Pace is as [Store.Pace] returns it.
	Pace Pace
	// Due is when the realm is due, or its claim ends; zero if it is not scheduled.
	Due time.Time
	// Claimed: a reconciler has it in hand.
	Claimed bool
	// Refused are the entities that QuickBooks refuses there, sorted: their cursors stay.
	Refused []string
}

// Progresses returns the progress of each realm, in the order of realms. Ask for some
// hundreds at a time.
func (s *Store) Progresses(ctx context.Context, realms []string) ([]Progress, error) {
	if len(realms) == 0 {
		return nil, nil
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	type answers struct {
		cursors    *redis.ZSliceCmd
		scans      *redis.IntCmd
		loading    *redis.IntCmd
		pace       *redis.StringCmd
		due, claim *redis.FloatCmd
		refused    *redis.StringSliceCmd
	}
	pipe := s.db.Pipeline()
	asked := make([]answers, len(realms))
	for i, realm := range realms {
		shard := Shard(realm)
		asked[i] = answers{
			cursors: pipe.ZRangeWithScores(ctx, Key("cur", realm), 0, -1),
			scans:   pipe.HLen(ctx, Key("scan", realm)),
			loading: pipe.HLen(ctx, Key("loaded", realm)),
			pace:    pipe.Get(ctx, Key("pace", realm)),
			due:     pipe.ZScore(ctx, shardKey("due", shard), realm),
			claim:   pipe.ZScore(ctx, shardKey("claim", shard), realm),
			refused: pipe.HKeys(ctx, Key("refused", realm)),
		}
	}
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("read the progress of %d realms: %w", len(realms), err)
	}
	all := make([]Progress, len(realms))
	for i, a := range asked {
		// A missing due or claim hides the error of another command of the pipeline.
		if err := errors.Join(a.cursors.Err(), a.scans.Err(), a.loading.Err(), a.refused.Err()); err != nil {
			return nil, fmt.Errorf("read the progress of realm %s: %w", realms[i], err)
		}
		p := Progress{Cursors: make(map[string]time.Time, len(a.cursors.Val())), Scans: int(a.scans.Val()), Loading: int(a.loading.Val())}
		for _, z := range a.cursors.Val() {
			p.Cursors[z.Member.(string)] = fromScore(z.Score)
		}
		text, err := a.pace.Result()
		if err == nil {
			p.Pace, err = parsePace(text)
		}
		if err != nil && !errors.Is(err, redis.Nil) {
			return nil, fmt.Errorf("read the pace of realm %s: %w", realms[i], err)
		}
		for _, score := range []*redis.FloatCmd{a.due, a.claim} {
			if err := score.Err(); err != nil && !errors.Is(err, redis.Nil) {
				return nil, fmt.Errorf("read when realm %s is due: %w", realms[i], err)
			}
		}
		if a.due.Err() == nil {
			p.Due = fromMillis(int64(a.due.Val()))
		}
		p.Claimed = a.claim.Err() == nil
		for _, field := range a.refused.Val() {
			if name, way := pairOf(field); way == RefusedByQuery {
				p.Refused = append(p.Refused, name)
			}
		}
		slices.Sort(p.Refused)
		all[i] = p
	}
	return all, nil
}

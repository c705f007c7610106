package state

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

var (
	//go:embed due_schedule.lua
	dueScheduleLua    string
	dueScheduleScript = redis.NewScript(dueScheduleLua)
	//go:embed due_claim.lua
	dueClaimLua    string
	dueClaimScript = redis.NewScript(dueClaimLua)
	//go:embed due_extend.lua
	dueExtendLua    string
	dueExtendScript = redis.NewScript(dueExtendLua)
	//go:embed due_done.lua
	dueDoneLua    string
	dueDoneScript = redis.NewScript(dueDoneLua)
)

func dueKeys(shard int) []string {
	return []string{shardKey("due", shard), shardKey("claim", shard), shardKey("again", shard)}
}

// Schedule makes a realm due at a time, in milliseconds; if it is due earlier
// already, that stays. A realm that is claimed becomes due again after its
// [Store.Done]: the scan under way may have passed what is asked for.
func (s *Store) Schedule(ctx context.Context, realm string, at time.Time) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := dueScheduleScript.Run(ctx, s.db, dueKeys(Shard(realm)), realm, at.UnixMilli()).Err(); err != nil {
		return fmt.Errorf("schedule realm %s: %w", realm, err)
	}
	return nil
}

// ClaimDue takes up to n realms of the shards that are due at now, the longest
// overdue shards first. Nobody else is given them until visibility has passed
// or they are [Store.Done]; make it longer than a scan takes, or [Store.Extend]
// it. A claim bounds waste, not correctness: take the realm's lease too.
func (s *Store) ClaimDue(ctx context.Context, shards []int, now time.Time, visibility time.Duration, n int) ([]string, error) {
	heads, err := s.heads(ctx, shards)
	if err != nil {
		return nil, fmt.Errorf("look for due realms: %w", err)
	}
	var realms []string
	for _, h := range heads {
		if len(realms) >= n || h.at.After(now) {
			break
		}
		claimed, err := s.claim(ctx, h.shard, now, visibility, n-len(realms))
		if err != nil {
			// Those claimed from other shards so far are the caller's all the same.
			return realms, fmt.Errorf("claim due realms of shard %d: %w", h.shard, err)
		}
		realms = append(realms, claimed...)
	}
	return realms, nil
}

func (s *Store) claim(ctx context.Context, shard int, now time.Time, visibility time.Duration, n int) ([]string, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	return dueClaimScript.Run(ctx, s.db, dueKeys(shard), now.UnixMilli(), now.Add(visibility).UnixMilli(), n).StringSlice()
}

// Extend prolongs a claim to a later time. A realm that is not claimed any more
// is left alone.
func (s *Store) Extend(ctx context.Context, realm string, until time.Time) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := dueExtendScript.Run(ctx, s.db, dueKeys(Shard(realm)), realm, until.UnixMilli()).Err(); err != nil {
		return fmt.Errorf("extend the claim of realm %s: %w", realm, err)
	}
	return nil
}

// Done ends a claim and makes the realm due at next, or when it was scheduled
// for meanwhile, whichever is earlier. A zero next takes a realm that nobody
// asked for off the schedule.
func (s *Store) Done(ctx context.Context, realm string, next time.Time) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	at := ""
	if !next.IsZero() {
		at = fmt.Sprint(next.UnixMilli())
	}
	if err := dueDoneScript.Run(ctx, s.db, dueKeys(Shard(realm)), realm, at).Err(); err != nil {
		return fmt.Errorf("end the claim of realm %s: %w", realm, err)
	}
	return nil
}

// NextDue returns when the first realm of the shards is due, or a claim ends;
// the zero time if none is scheduled.
func (s *Store) NextDue(ctx context.Context, shards []int) (time.Time, error) {
	heads, err := s.heads(ctx, shards)
	if err != nil {
		return time.Time{}, fmt.Errorf("look for the next due realm: %w", err)
	}
	if len(heads) == 0 {
		return time.Time{}, nil
	}
	return heads[0].at, nil
}

// Due returns when a realm is due, or its claim ends; the zero time if it is
// not scheduled.
func (s *Store) Due(ctx context.Context, realm string) (time.Time, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	score, err := s.db.ZScore(ctx, shardKey("due", Shard(realm)), realm).Result()
	if errors.Is(err, redis.Nil) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("read when realm %s is due: %w", realm, err)
	}
	return time.UnixMilli(int64(score)).UTC(), nil
}

type head struct {
	shard int
	at    time.Time
}

// heads are the earliest times of the shards that have any, in order of time.
func (s *Store) heads(ctx context.Context, shards []int) ([]head, error) {
	if len(shards) == 0 {
		return nil, nil
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	pipe := s.db.Pipeline()
	first := make([]*redis.ZSliceCmd, len(shards))
	for i, shard := range shards {
		first[i] = pipe.ZRangeWithScores(ctx, shardKey("due", shard), 0, 0)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, err
	}
	var heads []head
	for i, shard := range shards {
		for _, z := range first[i].Val() {
			heads = append(heads, head{shard, time.UnixMilli(int64(z.Score)).UTC()})
		}
	}
	slices.SortFunc(heads, func(a, b head) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.shard, b.shard)) })
	return heads, nil
}

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

	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
)

var (
	//go:embed due_schedule.lua
	dueScheduleLua    string
	dueScheduleScript = redis.NewScript(ClockLua + dueScheduleLua)
	//go:embed due_claim.lua
	dueClaimLua    string
	dueClaimScript = redis.NewScript(ClockLua + dueClaimLua)
	//go:embed due_extend.lua
	dueExtendLua    string
	dueExtendScript = redis.NewScript(ClockLua + dueExtendLua)
	//go:embed due_done.lua
	dueDoneLua    string
	dueDoneScript = redis.NewScript(ClockLua + dueDoneLua)
	//go:embed due_bound.lua
	dueBoundLua    string
	dueBoundScript = redis.NewScript(ClockLua + dueBoundLua)
)

func dueKeys(shard int) []string {
	return []string{shardKey("due", shard), shardKey("claim", shard), shardKey("again", shard)}
}

// dueNow and dueClockArg are the clock of the schedule and of claims.
func (s *Store) dueNow(ctx context.Context) (time.Time, error) {
	if sabotage.On(sabotage.ClockOfReplica) {
		return sabotage.Now().UTC(), nil
	}
	return s.Now(ctx)
}

func (s *Store) dueClockArg() string {
	if sabotage.On(sabotage.ClockOfReplica) {
		return fmt.Sprint(sabotage.Now().UnixMilli())
	}
	return s.ClockArg()
}

// Schedule makes a realm due at a time by Redis's clock, in milliseconds; if it is due
// earlier already, that stays. A realm that is claimed becomes due again after its
// [Store.Done]: the scan under way may have passed what is asked for. The caller's own
// clock may be wrong: see [Store.ScheduleIn].
func (s *Store) Schedule(ctx context.Context, realm string, at time.Time) error {
	return s.schedule(ctx, realm, "at", at.UnixMilli())
}

// ScheduleIn is Schedule after a time from now, by Redis's clock.
func (s *Store) ScheduleIn(ctx context.Context, realm string, in time.Duration) error {
	return s.schedule(ctx, realm, "in", max(in, 0).Milliseconds())
}

func (s *Store) schedule(ctx context.Context, realm, how string, ms int64) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := dueScheduleScript.Run(ctx, s.db, dueKeys(Shard(realm)), s.dueClockArg(), realm, how, ms).Err(); err != nil {
		return fmt.Errorf("schedule realm %s: %w", realm, err)
	}
	return nil
}

// ClaimDue takes up to n realms of the shards that have been due for late at least, by
// Redis's clock, the longest overdue shards first. Nobody else is given them until
// visibility has passed or they are [Store.Done]; make it longer than a scan takes, or
// [Store.Extend] it. A claim bounds waste, not correctness: take the realm's lease too.
func (s *Store) ClaimDue(ctx context.Context, shards []int, late, visibility time.Duration, n int) ([]string, error) {
	heads, err := s.heads(ctx, shards)
	if err != nil {
		return nil, fmt.Errorf("find due realms: %w", err)
	}
	now, err := s.dueNow(ctx)
	if err != nil {
		return nil, fmt.Errorf("find due realms: %w", err)
	}
	var realms []string
	for _, h := range heads {
		if len(realms) >= n || h.at.After(now.Add(-late)) {
			break
		}
		claimed, err := s.claim(ctx, h.shard, late, visibility, n-len(realms))
		if err != nil {
			// Those claimed from other shards so far are the caller's all the same.
			return realms, fmt.Errorf("claim due realms of shard %d: %w", h.shard, err)
		}
		realms = append(realms, claimed...)
	}
	return realms, nil
}

func (s *Store) claim(ctx context.Context, shard int, late, visibility time.Duration, n int) ([]string, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	return dueClaimScript.Run(ctx, s.db, dueKeys(shard), s.dueClockArg(), late.Milliseconds(), visibility.Milliseconds(), n).StringSlice()
}

// BoundDue makes the realms of the shards due now that are due, or claimed, further
// ahead than longest: no schedule of ours is, so a clock that was ahead once has put
// them there. It returns how many there were.
func (s *Store) BoundDue(ctx context.Context, shards []int, longest time.Duration) (n int, err error) {
	heads, err := s.ends(ctx, shards)
	if err != nil {
		return 0, fmt.Errorf("find realms that are due too far ahead: %w", err)
	}
	now, err := s.dueNow(ctx)
	if err != nil {
		return 0, fmt.Errorf("find realms that are due too far ahead: %w", err)
	}
	for _, h := range heads {
		if !h.at.After(now.Add(longest)) {
			continue
		}
		bounded, cancel := s.bound(ctx)
		some, err := dueBoundScript.Run(bounded, s.db, dueKeys(h.shard), s.dueClockArg(), longest.Milliseconds()).Int()
		cancel()
		if err != nil {
			return n, fmt.Errorf("bound the schedule of shard %d: %w", h.shard, err)
		}
		n += some
	}
	return n, nil
}

// Extend prolongs a claim until that time from now. A realm that is not claimed any
// more is left alone.
func (s *Store) Extend(ctx context.Context, realm string, by time.Duration) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := dueExtendScript.Run(ctx, s.db, dueKeys(Shard(realm)), s.dueClockArg(), realm, by.Milliseconds()).Err(); err != nil {
		return fmt.Errorf("extend the claim of realm %s: %w", realm, err)
	}
	return nil
}

// Never takes a realm that nobody asked for off the schedule: see [Store.Done].
const Never time.Duration = -1

// Done ends a claim and makes the realm due at that time from now, or when it was
// scheduled for meanwhile, whichever is earlier.
func (s *Store) Done(ctx context.Context, realm string, next time.Duration) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	in := ""
	if next >= 0 {
		in = fmt.Sprint(next.Milliseconds())
	}
	if err := dueDoneScript.Run(ctx, s.db, dueKeys(Shard(realm)), s.dueClockArg(), realm, in).Err(); err != nil {
		return fmt.Errorf("end the claim of realm %s: %w", realm, err)
	}
	return nil
}

// NextDue returns when the first realm of the shards is due, or a claim ends;
// the zero time if none is scheduled.
func (s *Store) NextDue(ctx context.Context, shards []int) (time.Time, error) {
	heads, err := s.heads(ctx, shards)
	if err != nil {
		return time.Time{}, fmt.Errorf("find the next due realm: %w", err)
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
	return s.ranked(ctx, shards, 0)
}

// ends are the latest.
func (s *Store) ends(ctx context.Context, shards []int) ([]head, error) {
	return s.ranked(ctx, shards, -1)
}

func (s *Store) ranked(ctx context.Context, shards []int, rank int64) ([]head, error) {
	if len(shards) == 0 {
		return nil, nil
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	pipe := s.db.Pipeline()
	first := make([]*redis.ZSliceCmd, len(shards))
	for i, shard := range shards {
		first[i] = pipe.ZRangeWithScores(ctx, shardKey("due", shard), rank, rank)
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

// Scheduled returns the realms that are due some time, or claimed.
func (s *Store) Scheduled(ctx context.Context) (map[string]bool, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	pipe := s.db.Pipeline()
	var parts []*redis.StringSliceCmd
	for shard := range Shards {
		for _, key := range dueKeys(shard) {
			parts = append(parts, pipe.ZRange(ctx, key, 0, -1))
		}
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("read the schedule: %w", err)
	}
	realms := map[string]bool{}
	for _, part := range parts {
		for _, realm := range part.Val() {
			realms[realm] = true
		}
	}
	return realms, nil
}

package state

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// MaxCalled is how many realms of a day are remembered, those with the most calls.
	// One that makes few calls may be dropped and counted from nothing again, so that
	// the figures of the last of them are too low; those at the top are right.
	MaxCalled = 1000
	// calledKept is how long a day is: a week to compare with, and today.
	calledKept = 9 * 24 * time.Hour
)

// realmDay is what the calls of a realm are counted by.
type realmDay struct{ realm, day string }

// tellRealms adds calls to the days they were made on.
func tellRealms(ctx context.Context, pipe redis.Pipeliner, calls map[realmDay]int64) {
	days := map[string]bool{}
	for at, n := range calls {
		pipe.ZIncrBy(ctx, calledKey(at.day), float64(n), at.realm)
		days[at.day] = true
	}
	for day := range days {
		pipe.ZRemRangeByRank(ctx, calledKey(day), 0, -MaxCalled-1)
		pipe.Expire(ctx, calledKey(day), calledKept)
	}
}

// RealmCalls is how many metered calls were made for a realm on a day.
type RealmCalls struct {
	RealmID string
	Calls   int64
}

// Busiest returns the n realms with the most metered calls on the day of a time, by
// UTC, the busiest first. Days are kept for a week, of each the [MaxCalled] busiest.
func (s *Store) Busiest(ctx context.Context, day time.Time, n int) ([]RealmCalls, error) {
	if n <= 0 {
		return nil, nil
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	zs, err := s.db.ZRevRangeWithScores(ctx, calledKey(day.UTC().Format(time.DateOnly)), 0, int64(n)-1).Result()
	if err != nil {
		return nil, fmt.Errorf("read the calls of the day: %w", err)
	}
	all := make([]RealmCalls, len(zs))
	for i, z := range zs {
		all[i] = RealmCalls{RealmID: z.Member.(string), Calls: int64(z.Score)}
	}
	return all, nil
}

// DayCalls are the metered calls of a day, of all realms.
type DayCalls struct {
	Day            time.Time
	Live, Backfill int64
}

// Calls returns the metered calls of each day of a time's month, by UTC, up to today.
// Months are kept for 70 days.
func (s *Store) Calls(ctx context.Context, month time.Time) ([]DayCalls, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	first := time.Date(month.UTC().Year(), month.UTC().Month(), 1, 0, 0, 0, 0, time.UTC)
	fields, err := s.db.HGetAll(ctx, callsKey(first.Format("2006-01"))).Result()
	if err != nil {
		return nil, fmt.Errorf("read the calls of %s: %w", first.Format("January 2006"), err)
	}
	var days []DayCalls
	for d := first; d.Month() == first.Month() && !d.After(s.now()); d = d.AddDate(0, 0, 1) {
		days = append(days, DayCalls{Day: d})
	}
	for field, text := range fields {
		number, class, _ := strings.Cut(field, ":")
		d, err1 := strconv.Atoi(number)
		n, err2 := strconv.ParseInt(text, 10, 64)
		if err1 != nil || err2 != nil || d < 1 || d > 31 {
			return nil, fmt.Errorf("read the calls of %s: %s is not a day", first.Format("January 2006"), field)
		}
		for len(days) < d { // a replica's clock may be ahead
			days = append(days, DayCalls{Day: first.AddDate(0, 0, len(days))})
		}
		if class == classLive {
			days[d-1].Live += n
		} else {
			days[d-1].Backfill += n
		}
	}
	return days, nil
}

func calledKey(day string) string { return durable + "called:{app}:" + day }

package connection

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// DeadlineKind says why an authorisation ends.
type DeadlineKind string

const (
	// RefreshDeadline is some 100 days after the last refresh. A refresh moves it.
	RefreshDeadline DeadlineKind = indexRefresh
	// HardDeadline is five years after the consent. Only a person can move it, by
	// connecting the realm anew. Tokens that were got without Intuit's header about it
	// have none that is known.
	HardDeadline DeadlineKind = indexHard
)

// WarnWithin is how long ahead of a deadline it is told: the refresh deadline of a
// realm that is scanned moves with each refresh, so that one that comes this close
// is of a realm nobody reads; for the hard one somebody has to write to a customer.
func (k DeadlineKind) WarnWithin() time.Duration {
	if k == HardDeadline {
		return 90 * day
	}
	return 30 * day
}

const day = 24 * time.Hour

// Deadline is when a realm's authorisation ends.
type Deadline struct {
	RealmID string
	Kind    DeadlineKind
	At      time.Time // seconds
}

// Deadlines returns the first n deadlines of a kind before a time, the nearest
// first, and how many there are. It costs the same however many realms there are.
func (s *Store) Deadlines(ctx context.Context, kind DeadlineKind, before time.Time, n int) (nearest []Deadline, total int, err error) {
	if err := s.indexed(ctx); err != nil {
		return nil, 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	key, end := indexKey(string(kind)), "("+strconv.FormatInt(before.Unix(), 10)
	pipe := s.db.Pipeline()
	count := pipe.ZCount(ctx, key, "-inf", end)
	var first *redis.ZSliceCmd
	if n > 0 {
		first = pipe.ZRangeByScoreWithScores(ctx, key, &redis.ZRangeBy{Min: "-inf", Max: end, Count: int64(n)})
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, 0, fmt.Errorf("read the deadlines of tokens: %w", err)
	}
	if first != nil {
		for _, z := range first.Val() {
			nearest = append(nearest, Deadline{RealmID: z.Member.(string), Kind: kind, At: time.Unix(int64(z.Score), 0).UTC()})
		}
	}
	return nearest, int(count.Val()), nil
}

const (
	watchEvery = 10 * time.Minute
	// warnedRealms is how many realms are named in one round of warnings.
	warnedRealms = 20
	watchLease   = "token-deadlines"
)

// Watch tries refused tokens again when they are due, see [Store.RetryDue]. Once a day
// over all replicas it warns in the log of deadlines that are near and puts the index
// right. It blocks until ctx ends.
func (s *Store) Watch(ctx context.Context) error {
	var retries sync.WaitGroup
	retries.Go(func() { s.watchRetries(ctx) })
	defer retries.Wait()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		// The lease is left to run out: it is what makes it once a day.
		_, err := s.state.Lease(ctx, watchLease, day)
		if err == nil {
			err = s.warn(ctx)
		}
		if err != nil && !errors.Is(err, state.ErrHeld) && ctx.Err() == nil {
			s.log.Debug("token deadlines not checked", telemetry.Error(err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (s *Store) warn(ctx context.Context) error {
	if err := s.Reindex(ctx); err != nil {
		return err
	}
	s.readClock(ctx, s.db)()
	for _, kind := range []DeadlineKind{RefreshDeadline, HardDeadline} {
		near, total, err := s.Deadlines(ctx, kind, s.now().Add(kind.WarnWithin()), warnedRealms)
		if err != nil {
			return err
		}
		for _, d := range near {
			s.log.Warn("realm authorisation ends soon", telemetry.Realm(d.RealmID), telemetry.Reason(kind.advice()), telemetry.At(d.At))
		}
		if total > len(near) {
			s.log.Warn("more realm authorisations end soon", telemetry.Reason(kind.advice()), telemetry.Count(total-len(near)))
		}
	}
	return nil
}

// advice is what to do about it.
func (k DeadlineKind) advice() string {
	if k == HardDeadline {
		return "five years after the consent: have the company connected again before"
	}
	return "nobody has refreshed its token for long: ledgerfeed token refresh"
}

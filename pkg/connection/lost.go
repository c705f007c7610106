package connection

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// ErrLost says that a realm was connected and that its record, with its tokens, is gone:
// Redis evicted it, or somebody deleted it. Only a person can connect the realm again; its
// cursors and marks are kept, so that the scan after that finds what has changed.
var ErrLost = errors.New("the record of the connection is lost")

// lostKey is a set of realms, so that a lost record is logged once and can be counted.
const lostKey = "lf:1:lost"

// LostRemedy says what to do about a lost record.
const LostRemedy = "have a person connect it again: cursors and marks are kept, and the next scan finds what has changed; then find out what deleted keys of Redis (maxmemory-policy must be noeviction)"

// NoteLost reports whether a realm that has no record was connected before: it is on the
// list or the schedule, or has cursors. Such a realm is logged once and counted until it
// is connected again. An error is returned too if the realm has a record by now.
func (s *Store) NoteLost(ctx context.Context, realm string) (bool, error) {
	within, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	pipe := s.db.Pipeline()
	record := pipe.Exists(within, connKey(realm))
	listed := pipe.SIsMember(within, realmsKey, realm)
	cursors := pipe.Exists(within, state.Key("cur", realm))
	if _, err := pipe.Exec(within); err != nil {
		return false, fmt.Errorf("find traces of realm %s: %w", realm, err)
	}
	if record.Val() > 0 {
		s.forgetKnown(realm)
		return false, fmt.Errorf("realm %s was connected a moment ago", realm)
	}
	if !listed.Val() && cursors.Val() == 0 {
		due, err := s.state.Due(ctx, realm)
		if err != nil || due.IsZero() {
			return false, err
		}
	}
	return true, s.addLost(within, realm)
}

func (s *Store) addLost(ctx context.Context, realm string) error {
	n, err := s.db.SAdd(ctx, lostKey, realm).Result()
	if err != nil {
		return fmt.Errorf("record the lost connection of realm %s: %w", realm, err)
	}
	if n > 0 {
		s.log.Error("connection record lost", telemetry.Realm(realm), zap.String("remedy", LostRemedy))
	}
	return nil
}

// foundAgain takes a realm that was connected off the set. If Redis does not take it,
// CheckLost does so later.
func (s *Store) foundAgain(ctx context.Context, realm string) {
	within, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := s.db.SRem(within, lostKey, realm).Err(); err != nil {
		s.log.Debug("connection still counted as lost", telemetry.Realm(realm), telemetry.Error(err))
	}
}

// Lost returns the realms whose record is lost, as far as that was noticed.
func (s *Store) Lost(ctx context.Context) ([]string, error) { return LostRealms(ctx, s.state) }

// LostRealms is [Store.Lost] for programs that have no keys to tokens.
func LostRealms(ctx context.Context, s *state.Store) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	realms, err := s.Redis().SMembers(ctx, lostKey).Result()
	if err != nil {
		return nil, fmt.Errorf("list the lost connections: %w", err)
	}
	slices.Sort(realms)
	return realms, nil
}

// CheckLost looks for the records of realms that were connected, and brings what
// [Store.Lost] returns up to date.
func (s *Store) CheckLost(ctx context.Context, realms []string) error {
	noted, err := s.Lost(ctx)
	if err != nil {
		return err
	}
	realms = slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(realms), noted...))))
	for part := range slices.Chunk(realms, batch) {
		found, err := s.haveRecord(ctx, part)
		if err != nil {
			return err
		}
		for _, realm := range part {
			_, known := slices.BinarySearch(noted, realm)
			switch {
			case found[realm] && known:
				s.foundAgain(ctx, realm)
			case !found[realm] && !known:
				if err := s.addLost(ctx, realm); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (s *Store) haveRecord(ctx context.Context, realms []string) (map[string]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	pipe := s.db.Pipeline()
	exist := make([]*redis.IntCmd, len(realms))
	for i, realm := range realms {
		exist[i] = pipe.Exists(ctx, connKey(realm))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("find the records of %d realms: %w", len(realms), err)
	}
	found := map[string]bool{}
	for i, realm := range realms {
		found[realm] = exist[i].Val() > 0
	}
	return found, nil
}

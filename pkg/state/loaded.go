package state

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// Loaded returns how far the loads under way of a realm have come, by entity: all
// records last updated before that time, by Intuit's clock, are delivered or dead
// letters. A load that was broken off goes on from there.
func (s *Store) Loaded(ctx context.Context, realm string) (map[string]time.Time, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	fields, err := s.db.HGetAll(ctx, Key("loaded", realm)).Result()
	if err != nil {
		return nil, fmt.Errorf("read the loads of realm %s: %w", realm, err)
	}
	all := make(map[string]time.Time, len(fields))
	for entity, text := range fields {
		at, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read the load of %s of realm %s: %w", entity, realm, err)
		}
		all[entity] = fromSeconds(at)
	}
	return all, nil
}

// SetLoaded notes how far the load of an entity has come, in whole seconds; the zero
// time forgets it.
func (s *Store) SetLoaded(ctx context.Context, realm, entity string, at time.Time) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	var err error
	if at.IsZero() {
		err = s.db.HDel(ctx, Key("loaded", realm), entity).Err()
	} else {
		err = s.db.HSet(ctx, Key("loaded", realm), entity, seconds(at)).Err()
	}
	if err != nil {
		return fmt.Errorf("record the load of %s of realm %s: %w", entity, realm, err)
	}
	return nil
}

// KeepLoaded is SetLoaded by a scan that began in that generation. It notes nothing once
// the cursors were rewound: the next load must not go on from there.
func (s *Store) KeepLoaded(ctx context.Context, realm string, g Generation, entity string, at time.Time) error {
	if _, err := s.ifGeneration(ctx, realm, g, "HSET", Key("loaded", realm), entity, seconds(at)); err != nil {
		return fmt.Errorf("record the load of %s of realm %s: %w", entity, realm, err)
	}
	return nil
}

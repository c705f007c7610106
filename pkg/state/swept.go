package state

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// Sweep is how far the reading of all ids of an entity has come.
type Sweep struct {
	// Began is when, by our clock. A sweep that began long ago says little of now.
	Began time.Time
	// At is up to when, by Intuit's clock: of what was last updated before, all absent
	// records are noted.
	At time.Time
}

// Swept returns the sweep under way; the zero value for none. Times are whole seconds.
func (s *Store) Swept(ctx context.Context, realm, entity string) (Sweep, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	text, err := s.db.HGet(ctx, Key("swept", realm), entity).Result()
	if errors.Is(err, redis.Nil) {
		return Sweep{}, nil
	}
	var began, at int64
	if err == nil {
		_, err = fmt.Sscanf(text, "%d,%d", &began, &at)
	}
	if err != nil {
		return Sweep{}, fmt.Errorf("read the sweep of %s of realm %s: %w", entity, realm, err)
	}
	return Sweep{Began: fromSeconds(began), At: fromSeconds(at)}, nil
}

// SetSwept records how far the sweep of an entity has come; the zero value removes it.
func (s *Store) SetSwept(ctx context.Context, realm, entity string, w Sweep) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	var err error
	if w.At.IsZero() {
		err = s.db.HDel(ctx, Key("swept", realm), entity).Err()
	} else {
		err = s.db.HSet(ctx, Key("swept", realm), entity, fmt.Sprintf("%d,%d", seconds(w.Began), seconds(w.At))).Err()
	}
	if err != nil {
		return fmt.Errorf("record the sweep of %s of realm %s: %w", entity, realm, err)
	}
	return nil
}

// Counted returns when the records of each entity of a realm were last counted to find
// silent deletions, by our clock.
func (s *Store) Counted(ctx context.Context, realm string) (map[string]time.Time, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	fields, err := s.db.HGetAll(ctx, Key("counted", realm)).Result()
	if err != nil {
		return nil, fmt.Errorf("read when realm %s was counted: %w", realm, err)
	}
	counted := make(map[string]time.Time, len(fields))
	for entity, text := range fields {
		at, _ := strconv.ParseInt(text, 10, 64) // nothing: never
		counted[entity] = fromSeconds(at)
	}
	return counted, nil
}

// SetCounted records it, in whole seconds; the entities that are not named stay.
func (s *Store) SetCounted(ctx context.Context, realm string, at map[string]time.Time) error {
	if len(at) == 0 {
		return nil
	}
	values := make([]any, 0, 2*len(at))
	for entity, t := range at {
		values = append(values, entity, seconds(t))
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := s.db.HSet(ctx, Key("counted", realm), values...).Err(); err != nil {
		return fmt.Errorf("record when realm %s was counted: %w", realm, err)
	}
	return nil
}

package state

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
)

// MaxRefusals is how many names of a realm are remembered.
const MaxRefusals = 100

// Refusal is an entity that the API does not know in a realm.
type Refusal struct {
	Entity string
	Way    string    // of asking: cdc, query
	At     time.Time // milliseconds
}

// Refusals returns what the API has refused by name in a realm, sorted by entity.
func (s *Store) Refusals(ctx context.Context, realm string) ([]Refusal, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	fields, err := s.db.HGetAll(ctx, Key("refused", realm)).Result()
	if err != nil {
		return nil, fmt.Errorf("read what realm %s refuses: %w", realm, err)
	}
	var all []Refusal
	for field, text := range fields {
		entity, way := pairOf(field)
		ms, _ := strconv.ParseInt(text, 10, 64)
		all = append(all, Refusal{Entity: entity, Way: way, At: fromMillis(ms)})
	}
	slices.SortFunc(all, func(a, b Refusal) int {
		return cmp.Or(cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.Way, b.Way))
	})
	return all, nil
}

// Refused notes one. Beyond [MaxRefusals] a new name is not kept: it is asked for,
// and refused, again.
func (s *Store) Refused(ctx context.Context, realm string, r Refusal) error {
	if sabotage.On(sabotage.RefusalForgotten) {
		return nil
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	key, field := Key("refused", realm), pairField(r.Entity, r.Way)
	n, err := s.db.HLen(ctx, key).Result()
	if err == nil && (n < MaxRefusals || s.db.HExists(ctx, key, field).Val()) {
		err = s.db.HSet(ctx, key, field, millis(r.At)).Err()
	}
	if err != nil {
		return fmt.Errorf("note what realm %s refuses: %w", realm, err)
	}
	return nil
}

// Accepted forgets one: the API knows the name by now.
func (s *Store) Accepted(ctx context.Context, realm string, r Refusal) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := s.db.HDel(ctx, Key("refused", realm), pairField(r.Entity, r.Way)).Err(); err != nil {
		return fmt.Errorf("forget what realm %s refused: %w", realm, err)
	}
	return nil
}

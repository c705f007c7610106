package state

import (
	"context"
	_ "embed"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"
)

var (
	//go:embed grow.lua
	growLua string
	// growScript raises numbers in a hash and never lowers one.
	growScript = redis.NewScript(growLua)
)

// MarkDead notes that a version of a record is among the dead letters, so that
// its absence no longer holds the cursor back. A version only grows.
func (s *Store) MarkDead(ctx context.Context, realm string, ref Ref, version int64) error {
	if version < 0 || version >= maxExact {
		return fmt.Errorf("mark %s %s of realm %s dead: version %d is out of range", ref.Entity, ref.ID, realm, version)
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	err := growScript.Run(ctx, s.db, []string{Key("dead", realm)}, pairField(ref.Entity, ref.ID), version).Err()
	if err != nil {
		return fmt.Errorf("mark %s %s of realm %s dead: %w", ref.Entity, ref.ID, realm, err)
	}
	return nil
}

// Dead returns the highest version of each ref among the dead letters, in the
// order of refs; 0 is none.
func (s *Store) Dead(ctx context.Context, realm string, refs []Ref) ([]int64, error) {
	versions := make([]int64, 0, len(refs))
	for rest := refs; len(rest) > 0; {
		n := min(len(rest), batch)
		page, err := s.deadPage(ctx, realm, rest[:n])
		if err != nil {
			return nil, fmt.Errorf("read dead letters of realm %s: %w", realm, err)
		}
		versions = append(versions, page...)
		rest = rest[n:]
	}
	return versions, nil
}

func (s *Store) deadPage(ctx context.Context, realm string, refs []Ref) ([]int64, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	fields := make([]string, len(refs))
	for i, r := range refs {
		fields[i] = pairField(r.Entity, r.ID)
	}
	values, err := s.db.HMGet(ctx, Key("dead", realm), fields...).Result()
	if err != nil {
		return nil, err
	}
	versions := make([]int64, len(refs))
	for i, v := range values {
		if text, ok := v.(string); ok {
			versions[i], _ = strconv.ParseInt(text, 10, 64)
		}
	}
	return versions, nil
}

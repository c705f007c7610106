package state

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// maxReferenced bounds the records that wait to be refreshed, of a realm.
const maxReferenced = 20_000

var (
	//go:embed referenced_take.lua
	referencedTakeLua    string
	referencedTakeScript = redis.NewScript(referencedTakeLua)
)

// NoteReferenced adds records that transactions reference, to be read once a day.
// Beyond 20,000 of a realm no more are noted until they were taken.
func (s *Store) NoteReferenced(ctx context.Context, realm string, refs map[Ref]bool) error {
	if len(refs) == 0 {
		return nil
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	key := Key("referenced", realm)
	held, err := s.db.SCard(ctx, key).Result()
	if err != nil {
		return fmt.Errorf("record referenced records of realm %s: %w", realm, err)
	}
	members := make([]any, 0, len(refs))
	for ref := range refs {
		if int64(len(members)) >= maxReferenced-held {
			break
		}
		members = append(members, pairField(ref.Entity, ref.ID))
	}
	for len(members) > 0 {
		n := min(len(members), batch)
		if err := s.db.SAdd(ctx, key, members[:n]...).Err(); err != nil {
			return fmt.Errorf("record referenced records of realm %s: %w", realm, err)
		}
		members = members[n:]
	}
	return nil
}

// TakeReferenced returns what was noted and forgets it, at most once in a time; nothing
// before that has passed.
func (s *Store) TakeReferenced(ctx context.Context, realm string, every time.Duration) ([]Ref, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	keys := []string{Key("referenced", realm), Key("refreshed", realm)}
	fields, err := referencedTakeScript.Run(ctx, s.db, keys, s.now().UnixMilli(), every.Milliseconds()).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("take the referenced records of realm %s: %w", realm, err)
	}
	refs := make([]Ref, len(fields))
	for i, field := range fields {
		refs[i].Entity, refs[i].ID = pairOf(field)
	}
	return refs, nil
}

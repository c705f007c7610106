package state

import (
	"context"
	_ "embed"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
)

// Ref names a record within a realm.
type Ref struct {
	Entity string `json:"entity"`
	ID     string `json:"id"`
}

// Mark is what a sink has of a record. The zero Mark is none.
type Mark struct {
	// Version is the highest version delivered.
	Version int64
	// Covered is the latest event time whose effect was delivered, in
	// milliseconds; zero if none is known.
	Covered time.Time
	// Hash is qbo.ContentHash of the document delivered at Version; empty if it is
	// not known.
	Hash string
}

// Advance is a delivery to note: the mark of Ref grows to Version and Covered,
// each by itself.
type Advance struct {
	Ref
	// Version is at most 2^53-1.
	Version int64
	// Hash is that of the document; it replaces the mark's unless the mark has a
	// higher version. Empty leaves the hash of an equal version as it is.
	Hash string
	// Restore sets a mark that is a tombstone back to Version and Covered: the
	// tombstone was wrong, and so may be what it covered.
	Restore bool
	// Covered is kept in milliseconds. Zero leaves the mark's as it is; so does
	// a time before 1970, as some bodies carry: it costs a read, not a change.
	Covered time.Time
}

var (
	//go:embed advance.lua
	advanceLua    string
	advanceScript = redis.NewScript(advanceLua)
)

const (
	// batch bounds the items of one command, and so the time that Redis answers
	// nobody else.
	batch = 1000
)

// Marks returns the marks of refs, in their order, in one round trip.
func (s *Store) Marks(ctx context.Context, realm, sink string, refs []Ref) ([]Mark, error) {
	marks := make([]Mark, len(refs))
	if len(refs) == 0 {
		return marks, nil
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()

	byEntity := make(map[string][]int)
	for i, r := range refs {
		byEntity[r.Entity] = append(byEntity[r.Entity], i)
	}
	type read struct {
		at  []int
		cmd *redis.SliceCmd
	}
	var reads []read
	pipe := s.db.Pipeline()
	for entity, at := range byEntity {
		key := markKey(realm, sink, entity)
		for len(at) > 0 {
			n := min(len(at), batch)
			ids := make([]string, n)
			for j, i := range at[:n] {
				ids[j] = refs[i].ID
			}
			reads = append(reads, read{at[:n], pipe.HMGet(ctx, key, ids...)})
			at = at[n:]
		}
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("read %d marks of realm %s: %w", len(refs), realm, err)
	}
	for _, r := range reads {
		for j, v := range r.cmd.Val() {
			if text, ok := v.(string); ok {
				marks[r.at[j]] = parseMark(text)
			}
		}
	}
	return marks, nil
}

// parseMark reads "version,covered" or "version,covered,hash". What cannot be read counts as no mark:
// that costs a duplicate, not a change.
func parseMark(text string) Mark {
	v, rest, _ := strings.Cut(text, ",")
	c, hash, _ := strings.Cut(rest, ",")
	version, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return Mark{}
	}
	covered, _ := strconv.ParseInt(c, 10, 64)
	return Mark{Version: version, Covered: fromMillis(covered), Hash: hash}
}

// Advance notes deliveries. Call it after the sink took them: a crash in
// between costs a duplicate, not a loss. It may be repeated.
func (s *Store) Advance(ctx context.Context, realm, sink string, as []Advance) error {
	for _, a := range as {
		if a.Version < 0 || a.Version >= maxExact {
			return fmt.Errorf("mark %s %s of realm %s: version %d is out of range", a.Entity, a.ID, realm, a.Version)
		}
	}
	for len(as) > 0 {
		n := min(len(as), batch)
		if err := s.advance(ctx, realm, sink, as[:n]); err != nil {
			return fmt.Errorf("mark %d records of realm %s: %w", n, realm, err)
		}
		as = as[n:]
	}
	return nil
}

func (s *Store) advance(ctx context.Context, realm, sink string, as []Advance) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	// A mark ends the dead letters that it reaches, in the same step.
	keys := []string{Key("dead", realm)}
	index := make(map[string]int)
	args := make([]any, 0, 6*len(as))
	for _, a := range as {
		k, ok := index[a.Entity]
		if !ok {
			keys = append(keys, markKey(realm, sink, a.Entity))
			k = len(keys)
			index[a.Entity] = k
		}
		restore := ""
		if a.Restore {
			restore = "restore"
		}
		args = append(args, k, a.ID, a.Version, millis(a.Covered), a.Hash, restore)
	}
	return advanceScript.Run(ctx, s.db, keys, args...).Err()
}

// LiveIDs returns what the sink has of an entity, id to version, tombstones
// left out. Changes made meanwhile may be in it or not.
func (s *Store) LiveIDs(ctx context.Context, realm, sink, entity string) (map[string]int64, error) {
	return s.ids(ctx, realm, sink, entity, false)
}

// IDs is LiveIDs with the tombstones.
func (s *Store) IDs(ctx context.Context, realm, sink, entity string) (map[string]int64, error) {
	return s.ids(ctx, realm, sink, entity, true)
}

func (s *Store) ids(ctx context.Context, realm, sink, entity string, tombstones bool) (map[string]int64, error) {
	ids := make(map[string]int64)
	key := markKey(realm, sink, entity)
	for cursor := uint64(0); ; {
		page, next, err := s.scanHash(ctx, key, cursor)
		if err != nil {
			return nil, fmt.Errorf("list %s of realm %s: %w", entity, realm, err)
		}
		for i := 0; i+1 < len(page); i += 2 {
			m := parseMark(page[i+1])
			switch {
			case qbo.IsTombstone(m.Version) && !tombstones:
				// A page may repeat an id; the later state wins.
				delete(ids, page[i])
			case m.Version > 0:
				ids[page[i]] = m.Version
			}
		}
		if next == 0 {
			return ids, nil
		}
		cursor = next
	}
}

func (s *Store) scanHash(ctx context.Context, key string, cursor uint64) ([]string, uint64, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	return s.db.HScan(ctx, key, cursor, "", batch).Result()
}

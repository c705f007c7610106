package state

import (
	"context"
	_ "embed"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

var (
	//go:embed behind_note.lua
	behindNoteLua    string
	behindNoteScript = redis.NewScript(behindNoteLua)
	//go:embed behind_end.lua
	behindEndLua    string
	behindEndScript = redis.NewScript(behindEndLua)
)

// Behind says that a sink did not get changes of an entity that no queue holds any
// more: the marks say which, and a scan from Oldest on finds them.
type Behind struct {
	Realm, Entity string
	// Oldest is the time of the oldest of the changes, in milliseconds.
	Oldest time.Time
	// Since is when the first of them was noted.
	Since time.Time

	value string // as it is stored
}

// NoteBehind notes what a sink did not get, by entity. Call it before the message is
// acked: a crash in between repeats the note.
func (s *Store) NoteBehind(ctx context.Context, realm, sink string, oldest map[string]time.Time) error {
	args := []any{millis(s.now())}
	for entity, at := range oldest {
		args = append(args, pairField(realm, entity), millis(at))
	}
	if len(args) == 1 {
		return nil
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := behindNoteScript.Run(ctx, s.db, []string{behindKey(sink)}, args...).Err(); err != nil {
		return fmt.Errorf("record that sink %s is behind: %w", sink, err)
	}
	return nil
}

// Behind returns what a sink did not get, a page of it, and where the next one begins; 0
// is the end. It may repeat some.
func (s *Store) Behind(ctx context.Context, sink string, cursor uint64) ([]Behind, uint64, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	page, next, err := s.db.HScan(ctx, behindKey(sink), cursor, "", batch).Result()
	if err != nil {
		return nil, 0, fmt.Errorf("list the undelivered changes of sink %s: %w", sink, err)
	}
	var all []Behind
	for i := 0; i+1 < len(page); i += 2 {
		realm, entity := pairOf(page[i])
		oldest, rest, _ := strings.Cut(page[i+1], ",")
		_, since, _ := strings.Cut(rest, ",")
		at, _ := strconv.ParseInt(oldest, 10, 64)
		from, _ := strconv.ParseInt(since, 10, 64)
		all = append(all, Behind{Realm: realm, Entity: entity, Oldest: fromMillis(at), Since: fromMillis(from), value: page[i+1]})
	}
	return all, next, nil
}

// EndBehind removes notes, but those to which something was added since they were read.
func (s *Store) EndBehind(ctx context.Context, sink string, notes []Behind) error {
	var args []any
	for _, n := range notes {
		args = append(args, pairField(n.Realm, n.Entity), n.value)
	}
	if len(args) == 0 {
		return nil
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := behindEndScript.Run(ctx, s.db, []string{behindKey(sink)}, args...).Err(); err != nil {
		return fmt.Errorf("delete the undelivered changes of sink %s: %w", sink, err)
	}
	return nil
}

// CountBehind is how many entities of realms a sink did not get changes of.
func (s *Store) CountBehind(ctx context.Context, sink string) (int64, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	n, err := s.db.HLen(ctx, behindKey(sink)).Result()
	if err != nil {
		return 0, fmt.Errorf("count the undelivered changes of sink %s: %w", sink, err)
	}
	return n, nil
}

func behindKey(sink string) string { return durable + "behind:" + tag(sink) }

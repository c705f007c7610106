package state

import (
	"context"
	_ "embed"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

var (
	//go:embed dead_mark.lua
	deadMarkLua    string
	deadMarkScript = redis.NewScript(deadMarkLua)

	//go:embed grow.lua
	growLua string
	// growScript raises numbers in a hash and never lowers one.
	growScript = redis.NewScript(growLua)
)

// DeadRecord says that a version of a record is a dead letter of one sink. A letter
// about all sinks has a record for each of the sinks that lacked the change then: a
// sink that is added later has none.
//
// The record excuses the sink from a version until the letter ends: requeued, purged
// or lost with the broker (the letter of that number is gone), expired, or overtaken
// by a delivery. It stays in Redis longer than that, until a mark reaches it, because
// QuickBooks has a record that the sink does not: see [Store.Undelivered].
type DeadRecord struct {
	Ref
	Sink string
	// Version is at most 2^53-1; zero in an answer is none.
	Version int64
	// Letter is its number among the dead letters; zero if that is not known.
	Letter uint64
}

// MarkDead records dead letters that end after life, unless something ends them
// before. Store the letter first: a crash in between costs a letter, not a change.
func (s *Store) MarkDead(ctx context.Context, realm string, life time.Duration, dead ...DeadRecord) error {
	ends := millis(s.now().Add(life))
	args := make([]any, 0, 4*len(dead))
	for _, d := range dead {
		if d.Version < 0 || d.Version >= maxExact {
			return fmt.Errorf("mark %s %s of realm %s dead: version %d is out of range", d.Entity, d.ID, realm, d.Version)
		}
		args = append(args, deadField(d.Sink, d.Entity, d.ID), d.Version, ends, d.Letter)
	}
	for len(args) > 0 {
		n := min(len(args), 4*batch)
		if err := s.markDead(ctx, realm, args[:n]); err != nil {
			return fmt.Errorf("mark %d records of realm %s dead: %w", n/4, realm, err)
		}
		args = args[n:]
	}
	return nil
}

func (s *Store) markDead(ctx context.Context, realm string, args []any) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	return deadMarkScript.Run(ctx, s.db, []string{Key("dead", realm)}, args...).Err()
}

// Dead returns what is a dead letter of the sink, in the order of refs; Version 0 is
// none, or one that has expired. Whether the letter is still there, the broker knows.
func (s *Store) Dead(ctx context.Context, realm, sink string, refs []Ref) ([]DeadRecord, error) {
	dead := make([]DeadRecord, 0, len(refs))
	for rest := refs; len(rest) > 0; {
		n := min(len(rest), batch)
		page, err := s.deadPage(ctx, realm, sink, rest[:n])
		if err != nil {
			return nil, fmt.Errorf("read dead letters of realm %s: %w", realm, err)
		}
		dead = append(dead, page...)
		rest = rest[n:]
	}
	return dead, nil
}

func (s *Store) deadPage(ctx context.Context, realm, sink string, refs []Ref) ([]DeadRecord, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	fields := make([]string, len(refs))
	for i, r := range refs {
		fields[i] = deadField(sink, r.Entity, r.ID)
	}
	values, err := s.db.HMGet(ctx, Key("dead", realm), fields...).Result()
	if err != nil {
		return nil, err
	}
	now := s.now()
	dead := make([]DeadRecord, len(refs))
	for i, v := range values {
		dead[i] = DeadRecord{Ref: refs[i], Sink: sink}
		text, _ := v.(string)
		if version, ends, letter := parseDead(text); ends.After(now) {
			dead[i].Version, dead[i].Letter = version, letter
		}
	}
	return dead, nil
}

// Undelivered returns the records of an entity that were dead letters once and that no
// sink has got since, id to version, whether or not the letters have ended. delivered
// reports whether some sink has a record. Records of the version before, which name no
// sink, are among them.
func (s *Store) Undelivered(ctx context.Context, realm, entity string, delivered func(id string) bool) (map[string]int64, error) {
	undelivered := make(map[string]int64)
	key, now := Key("dead", realm), s.now()
	for cursor := uint64(0); ; {
		page, next, err := s.deadScan(ctx, key, "*"+url.QueryEscape(entity)+":*", cursor)
		if err != nil {
			return nil, fmt.Errorf("list dead letters of %s of realm %s: %w", entity, realm, err)
		}
		var over []string
		for i := 0; i+1 < len(page); i += 2 {
			of, id, named := refOfDead(page[i])
			if of != entity {
				continue
			}
			version, ends, _ := parseDead(page[i+1])
			switch {
			case !delivered(id):
				undelivered[id] = max(undelivered[id], version)
			case named && !ends.After(now):
				over = append(over, page[i])
			}
		}
		if err := s.dropDead(ctx, key, over); err != nil {
			return nil, fmt.Errorf("forget dead letters of %s of realm %s: %w", entity, realm, err)
		}
		if next == 0 {
			return undelivered, nil
		}
		cursor = next
	}
}

// ForgetDead forgets all there is about records that QuickBooks does not have any more.
func (s *Store) ForgetDead(ctx context.Context, realm, entity string, gone map[string]bool) error {
	if len(gone) == 0 {
		return nil
	}
	key := Key("dead", realm)
	for cursor := uint64(0); ; {
		page, next, err := s.deadScan(ctx, key, "*"+url.QueryEscape(entity)+":*", cursor)
		if err != nil {
			return fmt.Errorf("list dead letters of %s of realm %s: %w", entity, realm, err)
		}
		var over []string
		for i := 0; i+1 < len(page); i += 2 {
			if of, id, _ := refOfDead(page[i]); of == entity && gone[id] {
				over = append(over, page[i])
			}
		}
		if err := s.dropDead(ctx, key, over); err != nil {
			return fmt.Errorf("forget dead letters of %s of realm %s: %w", entity, realm, err)
		}
		if next == 0 {
			return nil
		}
		cursor = next
	}
}

func (s *Store) deadScan(ctx context.Context, key, match string, cursor uint64) ([]string, uint64, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	return s.db.HScan(ctx, key, cursor, match, batch).Result()
}

func (s *Store) dropDead(ctx context.Context, key string, fields []string) error {
	if len(fields) == 0 {
		return nil
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	return s.db.HDel(ctx, key, fields...).Err()
}

// deadField is the end of the key of a mark and the id: advance.lua makes it so.
func deadField(sink, entity, id string) string { return pairField(sink, entity) + ":" + id }

// refOfDead takes a field apart. One of the version before has no sink, and its id
// is escaped.
func refOfDead(field string) (entity, id string, named bool) {
	parts := strings.SplitN(field, ":", 3)
	if len(parts) == 3 {
		entity, _ = url.QueryUnescape(parts[1])
		return entity, parts[2], true
	}
	entity, id = pairOf(field)
	return entity, id, false
}

// parseDead reads "version,end,letter", or a lone version, which never ends and
// excuses no sink.
func parseDead(text string) (version int64, ends time.Time, letter uint64) {
	v, rest, _ := strings.Cut(text, ",")
	e, l, _ := strings.Cut(rest, ",")
	version, _ = strconv.ParseInt(v, 10, 64)
	ms, _ := strconv.ParseInt(e, 10, 64)
	letter, _ = strconv.ParseUint(l, 10, 64)
	return version, fromMillis(ms), letter
}

package state

import (
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
)

var (
	//go:embed cursor_move.lua
	cursorMoveLua    string
	cursorMoveScript = redis.NewScript(cursorMoveLua)
	//go:embed cursor_rewind.lua
	cursorRewindLua    string
	cursorRewindScript = redis.NewScript(cursorRewindLua)
	//go:embed if_generation.lua
	ifGenerationLua    string
	ifGenerationScript = redis.NewScript(ifGenerationLua)
)

// Generation tells the cursors of a realm from those of before they were rewound: each
// rewind makes another. Who reads cursors, sinks or marks for a scan reads the
// generation first, and moves cursors only while it is the same; see ADR 17. Empty: they
// were never rewound.
type Generation string

func generationKey(realm string) string { return Key("gen", realm) }

// Generation returns the realm's.
func (s *Store) Generation(ctx context.Context, realm string) (Generation, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	g, err := s.db.Get(ctx, generationKey(realm)).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return "", fmt.Errorf("read the generation of realm %s: %w", realm, err)
	}
	return Generation(g), nil
}

// Cursors returns a realm's cursors by entity: every change up to that time, by
// Intuit's clock, was delivered or is a dead letter. An entity without one was
// never scanned to the end.
func (s *Store) Cursors(ctx context.Context, realm string) (map[string]time.Time, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	zs, err := s.db.ZRangeWithScores(ctx, Key("cur", realm), 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("read cursors of realm %s: %w", realm, err)
	}
	cursors := make(map[string]time.Time, len(zs))
	for _, z := range zs {
		cursors[z.Member.(string)] = fromScore(z.Score)
	}
	return cursors, nil
}

// AdvanceCursors moves cursors forward, never back, whatever has happened to them. It is
// for tests and tools that know what they do: scans use [Store.MoveCursors]. They have
// whole seconds: a fraction is cut off, which makes the next scan start a little earlier.
func (s *Store) AdvanceCursors(ctx context.Context, realm string, to map[string]time.Time) error {
	members := make([]redis.Z, 0, len(to))
	for entity, t := range to {
		if t.Unix() <= 0 {
			continue // no time
		}
		members = append(members, redis.Z{Score: float64(t.Unix()), Member: entity})
	}
	if len(members) == 0 {
		return nil
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	args := redis.ZAddArgs{GT: true, Ch: true, Members: members}
	if err := s.db.ZAddArgs(ctx, Key("cur", realm), args).Err(); err != nil {
		return fmt.Errorf("advance cursors of realm %s: %w", realm, err)
	}
	return nil
}

// Move is what a scan may do to the cursors of a realm, and what it started from.
type Move struct {
	Generation Generation
	// Scan is the id of the saved scan that the move is of; empty: it was not saved.
	Scan string
	// From are the cursors the scan started from, of To's entities; a missing one was
	// not there.
	From, To map[string]time.Time
}

// MoveCursors moves cursors forward, never back, in whole seconds, and returns the
// entities whose cursor it did not refuse to move. It refuses all of them if the realm's
// generation is another by now or the saved scan is gone, and one that is lower than the
// scan has found it, as an older version leaves them that makes no generation: the scan
// then does not know what was asked for since. All is compared and written in one step.
func (s *Store) MoveCursors(ctx context.Context, realm string, m Move) (moved []string, err error) {
	var none []string
	args := []any{string(m.Generation), m.Scan}
	for entity, to := range m.To {
		if to.Unix() <= 0 {
			none = append(none, entity) // no time: nothing to move, nor to refuse
			continue
		}
		from := ""
		if at := m.From[entity]; at.Unix() > 0 {
			from = fmt.Sprint(at.Unix())
		}
		args = append(args, entity, from, to.Unix())
	}
	if len(args) == 2 {
		return none, nil
	}
	if sabotage.On(sabotage.CursorRewindLost) {
		return slices.Collect(maps.Keys(m.To)), s.AdvanceCursors(ctx, realm, m.To)
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	keys := []string{Key("cur", realm), generationKey(realm), Key("scan", realm)}
	moved, err = cursorMoveScript.Run(ctx, s.db, keys, args...).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("move cursors of realm %s: %w", realm, err)
	}
	return append(moved, none...), nil
}

// RewindCursors moves cursors back because a person asked or a sink lacks what they
// passed, those of all entities if entities is nil. It never moves one forward, nor makes
// one. A zero time forgets them: the next scan loads everything. In the same step the
// realm gets another [Generation], so that no scan that was under way or waits to be
// verified undoes it; its saved scans are dropped, and how far loads have come and the
// realm's [Pace] are forgotten: the next scan covers everything.
func (s *Store) RewindCursors(ctx context.Context, realm string, entities []string, to time.Time) error {
	at, which := "", "some"
	if !to.IsZero() {
		at = fmt.Sprint(to.Unix())
	}
	if entities == nil {
		which = "all"
	}
	args := []any{rand.Text(), at, which}
	for _, e := range entities {
		args = append(args, e)
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	keys := []string{Key("cur", realm), generationKey(realm), Key("scan", realm), Key("loaded", realm), Key("pace", realm)}
	if err := cursorRewindScript.Run(ctx, s.db, keys, args...).Err(); err != nil {
		return fmt.Errorf("rewind cursors of realm %s: %w", realm, err)
	}
	return nil
}

// ifGeneration runs a command on one of the realm's keys if its generation is still g,
// and reports whether.
func (s *Store) ifGeneration(ctx context.Context, realm string, g Generation, command, key string, args ...any) (bool, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	args = append([]any{string(g), command}, args...)
	return ifGenerationScript.Run(ctx, s.db, []string{generationKey(realm), key}, args...).Bool()
}

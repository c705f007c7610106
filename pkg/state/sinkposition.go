package state

import (
	"context"
	_ "embed"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

var (
	//go:embed mark_lower.lua
	markLowerLua    string
	markLowerScript = redis.NewScript(markLowerLua)
)

// SinkPosition is how far a sink was when it was last looked at: see
// processor.Positioned. Who changes it holds a lease from the look to here.
type SinkPosition struct {
	// ID and Server are empty if nobody has looked yet.
	ID, Server string
	N          int64
	// Again is when the marks are compared with the sink once more; zero: they need not
	// be.
	Again time.Time
	// Rewinds are cursors that must go back, since marks of the sink were lowered to what
	// it holds; the zero time is the beginning.
	Rewinds map[Rewind]time.Time
}

// Rewind names a cursor.
type Rewind struct{ Realm, Entity string }

func (r Rewind) field() string { return rewindPrefix + pairField(r.Realm, r.Entity) }

const rewindPrefix = "rewind "

func sinkPositionKey(sink string) string { return Key("position", sink) }

// SinkPosition returns the last one that was noted.
func (s *Store) SinkPosition(ctx context.Context, sink string) (SinkPosition, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	fields, err := s.db.HGetAll(ctx, sinkPositionKey(sink)).Result()
	if err != nil {
		return SinkPosition{}, fmt.Errorf("read the position of sink %s: %w", sink, err)
	}
	p := SinkPosition{ID: fields["id"], Server: fields["server"], Rewinds: map[Rewind]time.Time{}}
	p.N, _ = strconv.ParseInt(fields["n"], 10, 64)
	again, _ := strconv.ParseInt(fields["again"], 10, 64)
	p.Again = fromMillis(again)
	for field, text := range fields {
		pair, ok := strings.CutPrefix(field, rewindPrefix)
		if !ok {
			continue
		}
		realm, entity := pairOf(pair)
		at, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return SinkPosition{}, fmt.Errorf("read the position of sink %s: field %q", sink, field)
		}
		p.Rewinds[Rewind{realm, entity}] = fromSeconds(at)
	}
	return p, nil
}

// SetSinkPosition notes a position; Rewinds stay as they are.
func (s *Store) SetSinkPosition(ctx context.Context, sink string, p SinkPosition) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	err := s.db.HSet(ctx, sinkPositionKey(sink), "id", p.ID, "server", p.Server, "n", p.N, "again", millis(p.Again)).Err()
	if err != nil {
		return fmt.Errorf("record the position of sink %s: %w", sink, err)
	}
	return nil
}

// NoteRewind notes that a cursor must go back to a time, the zero time being the beginning. Call
// it before marks are lowered, so that a crash in between does not lose it.
func (s *Store) NoteRewind(ctx context.Context, sink string, r Rewind, to time.Time) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := s.db.HSet(ctx, sinkPositionKey(sink), r.field(), seconds(to)).Err(); err != nil {
		return fmt.Errorf("record the pending changes of sink %s in realm %s: %w", sink, r.Realm, err)
	}
	return nil
}

// ClearRewind says that a cursor has gone back.
func (s *Store) ClearRewind(ctx context.Context, sink string, r Rewind) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := s.db.HDel(ctx, sinkPositionKey(sink), r.field()).Err(); err != nil {
		return fmt.Errorf("record the rewind of realm %s for sink %s: %w", r.Realm, sink, err)
	}
	return nil
}

// HeldMark is a mark as it was read, to be lowered if it is still so.
type HeldMark struct {
	ID string
	Mark
	text string
}

// Marked returns those of the entities of which a sink has any mark in a realm.
func (s *Store) Marked(ctx context.Context, realm, sink string, entities []string) ([]string, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	pipe := s.db.Pipeline()
	there := make([]*redis.IntCmd, len(entities))
	for i, entity := range entities {
		there[i] = pipe.Exists(ctx, markKey(realm, sink, entity))
	}
	if _, err := pipe.Exec(ctx); err != nil && len(entities) > 0 {
		return nil, fmt.Errorf("find marks of realm %s: %w", realm, err)
	}
	var marked []string
	for i, entity := range entities {
		if there[i].Val() > 0 {
			marked = append(marked, entity)
		}
	}
	return marked, nil
}

// MarkPages are the marks of a sink, some hundreds or thousands at a time. One may come
// twice, and one that is made meanwhile not at all.
func (s *Store) MarkPages(ctx context.Context, realm, sink, entity string) iter.Seq2[[]HeldMark, error] {
	return func(yield func([]HeldMark, error) bool) {
		key := markKey(realm, sink, entity)
		for cursor := uint64(0); ; {
			page, next, err := s.scanHash(ctx, key, cursor)
			if err != nil {
				yield(nil, fmt.Errorf("list %s of realm %s: %w", entity, realm, err))
				return
			}
			marks := make([]HeldMark, 0, len(page)/2)
			for i := 0; i+1 < len(page); i += 2 {
				marks = append(marks, HeldMark{ID: page[i], Mark: parseMark(page[i+1]), text: page[i+1]})
			}
			if len(marks) > 0 && !yield(marks, nil) || next == 0 {
				return
			}
			cursor = next
		}
	}
}

// Lower is a mark and the version that takes its place, with the hash of its document;
// 0 is none.
type Lower struct {
	HeldMark
	To   int64
	Hash string
}

// LowerMarks sets marks to less than they say, those that are still as they were read,
// and returns how many. What an event covers is forgotten too.
func (s *Store) LowerMarks(ctx context.Context, realm, sink, entity string, marks []Lower) (n int, err error) {
	for len(marks) > 0 {
		part := marks[:min(len(marks), batch)]
		marks = marks[len(part):]
		args := make([]any, 0, 3*len(part))
		for _, m := range part {
			to := ""
			if m.To > 0 {
				to = fmt.Sprintf("%d,0", m.To)
			}
			if m.To > 0 && m.Hash != "" {
				to += "," + m.Hash
			}
			args = append(args, m.ID, m.text, to)
		}
		bounded, cancel := s.bound(ctx)
		some, err := markLowerScript.Run(bounded, s.db, []string{markKey(realm, sink, entity)}, args...).Int()
		cancel()
		if err != nil {
			return n, fmt.Errorf("lower %d marks of realm %s: %w", len(part), realm, err)
		}
		n += some
	}
	return n, nil
}

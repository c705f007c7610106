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

// FollowUpKind says why a scan looks at a record by its id.
type FollowUpKind string

const (
	// FollowUpTombstone: the sinks hold a tombstone that ChangeDataCapture has not
	// confirmed. The next scan, whenever it comes, asks for the record.
	FollowUpTombstone FollowUpKind = "tombstone"
	// FollowUpRead: a read was older than the event that asked for it, or did not show
	// the record. A scan within minutes asks again.
	FollowUpRead FollowUpKind = "read"
)

// FollowUp is a record that the realm's next scan must look at by its id, because
// one answer of the API was not enough to conclude from.
type FollowUp struct {
	Ref
	Kind FollowUpKind
	// Since is when the event happened that is not explained yet, by Intuit's clock.
	Since time.Time
	// First is when the record was noted, by our clock; Tries is how many scans have
	// asked for it since without an answer that settles it.
	First time.Time
	Tries int

	stored string // as Redis holds it
}

// The value is "kind,since ms,first ms,tries".
func (f FollowUp) value() string {
	return fmt.Sprintf("%s,%d,%d,%d", f.Kind, millis(f.Since), millis(f.First), f.Tries)
}

func parseFollowUp(field, text string) FollowUp {
	var f FollowUp
	f.Entity, f.ID = pairOf(field)
	f.stored = text
	part := strings.Split(text, ",")
	number := func(i int) (n int64) {
		if i < len(part) {
			n, _ = strconv.ParseInt(part[i], 10, 64)
		}
		return n
	}
	f.Kind, f.Since, f.First, f.Tries = FollowUpKind(part[0]), fromMillis(number(1)), fromMillis(number(2)), int(number(3))
	return f
}

// NoteFollowUps records what the realm's next scan must look at. A record that is
// noted already keeps its First and Tries, and the later Since.
func (s *Store) NoteFollowUps(ctx context.Context, realm string, all []FollowUp) error {
	for len(all) > 0 {
		n := min(len(all), batch)
		args := make([]any, 0, 2*n)
		for _, f := range all[:n] {
			args = append(args, pairField(f.Entity, f.ID), f.value())
		}
		err := s.script(ctx, followNoteScript, []string{Key("follow", realm)}, args...)
		if err != nil {
			return fmt.Errorf("record %d follow-ups of realm %s: %w", n, realm, err)
		}
		all = all[n:]
	}
	return nil
}

// FollowUps are the records that the realm's next scan must look at.
func (s *Store) FollowUps(ctx context.Context, realm string) ([]FollowUp, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	fields, err := s.db.HGetAll(ctx, Key("follow", realm)).Result()
	if err != nil {
		return nil, fmt.Errorf("read the follow-ups of realm %s: %w", realm, err)
	}
	all := make([]FollowUp, 0, len(fields))
	for field, text := range fields {
		all = append(all, parseFollowUp(field, text))
	}
	return all, nil
}

// EndFollowUps removes those that [Store.FollowUps] returned; what was noted since
// stays.
func (s *Store) EndFollowUps(ctx context.Context, realm string, all []FollowUp) error {
	return s.endFollowUps(ctx, realm, all, func(FollowUp) string { return "" })
}

// RetryFollowUps counts a try of each, unless it was noted again since.
func (s *Store) RetryFollowUps(ctx context.Context, realm string, all []FollowUp) error {
	return s.endFollowUps(ctx, realm, all, func(f FollowUp) string {
		f.Tries++
		return f.value()
	})
}

func (s *Store) endFollowUps(ctx context.Context, realm string, all []FollowUp, next func(FollowUp) string) error {
	for len(all) > 0 {
		n := min(len(all), batch)
		args := make([]any, 0, 3*n)
		for _, f := range all[:n] {
			args = append(args, pairField(f.Entity, f.ID), f.stored, next(f))
		}
		err := s.script(ctx, followEndScript, []string{Key("follow", realm)}, args...)
		if err != nil {
			return fmt.Errorf("remove %d follow-ups of realm %s: %w", n, realm, err)
		}
		all = all[n:]
	}
	return nil
}

func (s *Store) script(ctx context.Context, script *redis.Script, keys []string, args ...any) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	return script.Run(ctx, s.db, keys, args...).Err()
}

var (
	//go:embed follow_note.lua
	followNoteLua    string
	followNoteScript = redis.NewScript(followNoteLua)
	//go:embed follow_end.lua
	followEndLua    string
	followEndScript = redis.NewScript(followEndLua)
)

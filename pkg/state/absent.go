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

// MaxAbsences is how many absent records of a realm are noted at a time. Deletions of
// more are found in rounds.
const MaxAbsences = 100_000

// Absence is a delivered record that QuickBooks did not return where it should have.
// One such answer proves nothing, since reads lag: a second one, later, is needed.
type Absence struct {
	Ref
	// Version is what the sinks had of it then. Once they have another, a read has
	// returned the record since.
	Version int64
	// First is when QuickBooks first did not return it, by Intuit's clock.
	First time.Time
}

var (
	//go:embed absent_note.lua
	absentNoteLua    string
	absentNoteScript = redis.NewScript(absentNoteLua)
)

// NoteAbsences records what an answer did not return. A record that is noted already
// keeps its First. It reports whether there was no room for all: see [MaxAbsences].
func (s *Store) NoteAbsences(ctx context.Context, realm string, all []Absence) (full bool, err error) {
	for len(all) > 0 {
		n := min(len(all), batch)
		args := make([]any, 1, 1+2*n)
		args[0] = MaxAbsences
		for _, a := range all[:n] {
			args = append(args, pairField(a.Entity, a.ID), fmt.Sprintf("%d,%d", a.Version, millis(a.First)))
		}
		left, err := s.noteAbsences(ctx, realm, args)
		if err != nil {
			return full, fmt.Errorf("record %d absent records of realm %s: %w", n, realm, err)
		}
		full = full || left > 0
		all = all[n:]
	}
	return full, nil
}

func (s *Store) noteAbsences(ctx context.Context, realm string, args []any) (left int, err error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	return absentNoteScript.Run(ctx, s.db, []string{Key("absent", realm)}, args...).Int()
}

// HasAbsences reports whether any record of the realm is noted.
func (s *Store) HasAbsences(ctx context.Context, realm string) (bool, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	n, err := s.db.HLen(ctx, Key("absent", realm)).Result()
	if err != nil {
		return false, fmt.Errorf("count the absent records of realm %s: %w", realm, err)
	}
	return n > 0, nil
}

// Absences are the realm's absent records by entity.
func (s *Store) Absences(ctx context.Context, realm string) (map[string][]Absence, error) {
	has, err := s.HasAbsences(ctx, realm)
	if err != nil || !has {
		return nil, err
	}
	all := map[string][]Absence{}
	seen := map[string]bool{} // HSCAN may return a field twice
	for cursor := uint64(0); ; {
		page, next, err := s.scanHash(ctx, Key("absent", realm), cursor)
		if err != nil {
			return nil, fmt.Errorf("read the absent records of realm %s: %w", realm, err)
		}
		for i := 0; i+1 < len(page); i += 2 {
			if seen[page[i]] {
				continue
			}
			seen[page[i]] = true
			a := parseAbsence(page[i], page[i+1])
			all[a.Entity] = append(all[a.Entity], a)
		}
		if next == 0 {
			return all, nil
		}
		cursor = next
	}
}

// parseAbsence reads "version,first". What cannot be read is absent since now, as it
// were: it has no version that any sink has, and so it is dropped.
func parseAbsence(field, text string) Absence {
	var a Absence
	a.Entity, a.ID = pairOf(field)
	version, first, _ := strings.Cut(text, ",")
	a.Version, _ = strconv.ParseInt(version, 10, 64)
	ms, _ := strconv.ParseInt(first, 10, 64)
	a.First = fromMillis(ms)
	return a
}

// EndAbsences removes records: QuickBooks returned them, or every sink has a tombstone.
func (s *Store) EndAbsences(ctx context.Context, realm string, refs []Ref) error {
	for len(refs) > 0 {
		n := min(len(refs), batch)
		fields := make([]string, n)
		for i, r := range refs[:n] {
			fields[i] = pairField(r.Entity, r.ID)
		}
		if err := s.endAbsences(ctx, realm, fields); err != nil {
			return fmt.Errorf("remove %d absent records of realm %s: %w", n, realm, err)
		}
		refs = refs[n:]
	}
	return nil
}

func (s *Store) endAbsences(ctx context.Context, realm string, fields []string) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	return s.db.HDel(ctx, Key("absent", realm), fields...).Err()
}

package state

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Sighting is when a webhook for an entity and operation was last processed,
// by the event's own time. It shows freshness; no cursor follows from it.
type Sighting struct {
	Entity    string
	Operation string
	At        time.Time // milliseconds
}

// Seen notes one sighting, see [Store.SeenAll].
func (s *Store) Seen(ctx context.Context, realm, entity, operation string, at time.Time) error {
	return s.SeenAll(ctx, realm, []Sighting{{Entity: entity, Operation: operation, At: at}})
}

// SeenAll notes sightings; of each entity and operation the latest stays.
func (s *Store) SeenAll(ctx context.Context, realm string, sightings []Sighting) error {
	for rest := sightings; len(rest) > 0; {
		n := min(len(rest), batch)
		args := make([]any, 0, 2*n)
		for _, x := range rest[:n] {
			args = append(args, pairField(x.Entity, x.Operation), millis(x.At))
		}
		if err := s.grow(ctx, Key("seen", realm), args); err != nil {
			return fmt.Errorf("note webhooks of realm %s: %w", realm, err)
		}
		rest = rest[n:]
	}
	return nil
}

func (s *Store) grow(ctx context.Context, key string, args []any) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	return growScript.Run(ctx, s.db, []string{key}, args...).Err()
}

// Freshness returns a realm's sightings, sorted by entity and operation.
func (s *Store) Freshness(ctx context.Context, realm string) ([]Sighting, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	fields, err := s.db.HGetAll(ctx, Key("seen", realm)).Result()
	if err != nil {
		return nil, fmt.Errorf("read freshness of realm %s: %w", realm, err)
	}
	sightings := make([]Sighting, 0, len(fields))
	for field, text := range fields {
		entity, operation := pairOf(field)
		ms, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read freshness of realm %s: %s: %w", realm, field, err)
		}
		sightings = append(sightings, Sighting{Entity: entity, Operation: operation, At: fromMillis(ms)})
	}
	slices.SortFunc(sightings, func(a, b Sighting) int {
		return cmp.Or(cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.Operation, b.Operation))
	})
	return sightings, nil
}

func pairOf(field string) (a, b string) {
	a, b, _ = strings.Cut(field, ":")
	return unescape(a), unescape(b)
}

func unescape(s string) string {
	if text, err := url.QueryUnescape(s); err == nil {
		return text
	}
	return s
}

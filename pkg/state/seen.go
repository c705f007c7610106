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
// by the event's own time: see [Sightings]. It shows freshness; no cursor follows
// from it.
type Sighting struct {
	Entity    string
	Operation string
	At        time.Time // milliseconds
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

package state

import (
	"context"
	"fmt"
	"strconv"
)

// Undelivered are the dead letters of an entity that no sink has: QuickBooks counts
// them, and delivered reports that no sink does. Id to version.
func (s *Store) Undelivered(ctx context.Context, realm, entity string, delivered func(id string) bool) (map[string]int64, error) {
	all := map[string]int64{}
	for cursor := uint64(0); ; {
		page, next, err := s.scanHash(ctx, Key("dead", realm), cursor)
		if err != nil {
			return nil, fmt.Errorf("list dead letters of %s of realm %s: %w", entity, realm, err)
		}
		for i := 0; i+1 < len(page); i += 2 {
			if of, id := pairOf(page[i]); of == entity && !delivered(id) {
				all[id], _ = strconv.ParseInt(page[i+1], 10, 64)
			}
		}
		if next == 0 {
			return all, nil
		}
		cursor = next
	}
}

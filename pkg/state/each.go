package state

import (
	"context"
	"fmt"
)

// MarkedRecords is how many records of an entity have a mark of the sink, tombstones included.
func (s *Store) MarkedRecords(ctx context.Context, realm, sink, entity string) (int, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	n, err := s.db.HLen(ctx, markKey(realm, sink, entity)).Result()
	if err != nil {
		return 0, fmt.Errorf("count %s of realm %s: %w", entity, realm, err)
	}
	return int(n), nil
}

// Record is the id of a record and the version that a sink has of it.
type Record struct {
	ID      string
	Version int64
}

// EachMark calls visit with what the sink has of an entity, tombstones included, some
// thousand at a time, so that no process holds millions. A record may come twice;
// changes made meanwhile are in it or not. The slice is only valid during the call.
func (s *Store) EachMark(ctx context.Context, realm, sink, entity string, visit func([]Record) error) error {
	key := markKey(realm, sink, entity)
	var records []Record
	for cursor := uint64(0); ; {
		page, next, err := s.scanHash(ctx, key, cursor)
		if err != nil {
			return fmt.Errorf("list %s of realm %s: %w", entity, realm, err)
		}
		records = records[:0]
		for i := 0; i+1 < len(page); i += 2 {
			if m := parseMark(page[i+1]); m.Version > 0 {
				records = append(records, Record{page[i], m.Version})
			}
		}
		if err := visit(records); err != nil || next == 0 {
			return err
		}
		cursor = next
	}
}

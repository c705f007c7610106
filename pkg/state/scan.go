package state

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Scan is a look at a realm whose findings are on the stream but not verified
// yet. It is kept so that any replica can go on from it.
type Scan struct {
	ID        string    `json:"id"`
	StartedAt time.Time `json:"started_at"`
	// Time is S, the time by Intuit's clock that the scan speaks for.
	Time time.Time `json:"time"`
	// Cursors are what to move to once nothing is missing any more.
	Cursors map[string]time.Time `json:"cursors"`
	// From are the cursors the scan started from, and Generation is theirs: see
	// [Store.MoveCursors]. A scan of an older version has neither.
	From       map[string]time.Time `json:"from,omitempty"`
	Generation Generation           `json:"generation,omitempty"`
	// Missing is what was above its mark.
	Missing []Missing `json:"missing,omitempty"`
}

// Missing is a change that no webhook had brought.
type Missing struct {
	Ref
	Version int64 `json:"version"`
}

// SaveScan keeps a scan, in place of an earlier one of that id.
func (s *Store) SaveScan(ctx context.Context, realm string, scan Scan) error {
	text, err := json.Marshal(scan)
	if err != nil {
		return fmt.Errorf("encode scan %s of realm %s: %w", scan.ID, realm, err)
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := s.db.HSet(ctx, Key("scan", realm), scan.ID, text).Err(); err != nil {
		return fmt.Errorf("save scan %s of realm %s: %w", scan.ID, realm, err)
	}
	return nil
}

// Scans returns a realm's open scans, the oldest first.
func (s *Store) Scans(ctx context.Context, realm string) ([]Scan, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	texts, err := s.db.HGetAll(ctx, Key("scan", realm)).Result()
	if err != nil {
		return nil, fmt.Errorf("read scans of realm %s: %w", realm, err)
	}
	scans := make([]Scan, 0, len(texts))
	for id, text := range texts {
		var scan Scan
		if err := json.Unmarshal([]byte(text), &scan); err != nil {
			return nil, fmt.Errorf("decode scan %s of realm %s: %w", id, realm, err)
		}
		scans = append(scans, scan)
	}
	slices.SortFunc(scans, func(a, b Scan) int { return a.StartedAt.Compare(b.StartedAt) })
	return scans, nil
}

// DropScan forgets a scan, once its cursors are moved or another replaced it.
func (s *Store) DropScan(ctx context.Context, realm, id string) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := s.db.HDel(ctx, Key("scan", realm), id).Err(); err != nil {
		return fmt.Errorf("drop scan %s of realm %s: %w", id, realm, err)
	}
	return nil
}

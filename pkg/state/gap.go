package state

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// MaxGaps is how many gaps of a realm are kept, the latest.
const MaxGaps = 1000

// Gap is a change that a scan found before any webhook brought it.
type Gap struct {
	At time.Time `json:"at"` // when it was found; AppendGaps fills in a zero one
	Ref
	Version int64     `json:"version"`
	Source  string    `json:"source"`         // how it was found: cdc, query, sweep
	Verdict string    `json:"verdict"`        // why no webhook came
	Event   time.Time `json:"event,omitzero"` // when it happened, by Intuit's clock
}

// AppendGaps adds to a realm's ledger of gaps; the oldest beyond [MaxGaps] go.
func (s *Store) AppendGaps(ctx context.Context, realm string, gaps []Gap) error {
	if len(gaps) == 0 {
		return nil
	}
	gaps = gaps[max(0, len(gaps)-MaxGaps):]
	texts := make([]any, len(gaps))
	for i, g := range gaps {
		if g.At.IsZero() {
			g.At = s.now().UTC()
		}
		text, err := json.Marshal(g)
		if err != nil {
			return fmt.Errorf("encode gap of realm %s: %w", realm, err)
		}
		texts[i] = text
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	pipe := s.db.TxPipeline()
	pipe.LPush(ctx, Key("gap", realm), texts...)
	pipe.LTrim(ctx, Key("gap", realm), 0, MaxGaps-1)
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("append %d gaps of realm %s: %w", len(gaps), realm, err)
	}
	return nil
}

// Gaps returns the latest n gaps of a realm, the newest first.
func (s *Store) Gaps(ctx context.Context, realm string, n int) ([]Gap, error) {
	if n <= 0 {
		return nil, nil
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	texts, err := s.db.LRange(ctx, Key("gap", realm), 0, int64(n)-1).Result()
	if err != nil {
		return nil, fmt.Errorf("read gaps of realm %s: %w", realm, err)
	}
	gaps := make([]Gap, len(texts))
	for i, text := range texts {
		if err := json.Unmarshal([]byte(text), &gaps[i]); err != nil {
			return nil, fmt.Errorf("decode gap of realm %s: %w", realm, err)
		}
	}
	return gaps, nil
}

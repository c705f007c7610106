package state

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// auditsKept is how long the verdicts on a realm stay after its last audit.
const auditsKept = 180 * day

// Audit is what came of comparing one entity of a realm, as a sink has it, with
// QuickBooks.
type Audit struct {
	Realm  string    `json:"realm"`
	Entity string    `json:"entity"`
	Sink   string    `json:"sink"`
	Run    string    `json:"run"` // the same for all that were compared together
	At     time.Time `json:"at"`
	// Verdict is no-gap, gaps, counts-agree (nothing but the counts was compared) or
	// incomplete (not all could be).
	Verdict string `json:"verdict"`
	// UpTo is up to when, by Intuit's clock, every change was compared; zero if none.
	UpTo time.Time `json:"up_to,omitzero"`
	// Records is how many QuickBooks has. Missing are those that the sink has not, or
	// has as deleted; Stale those of which it has an older version; Extra those that
	// it has and QuickBooks has not; Differs those of which it has another document of
	// the same version. Repaired are those of them that the sink has
	// right by now.
	Records  int    `json:"records"`
	Missing  int    `json:"missing"`
	Stale    int    `json:"stale"`
	Extra    int    `json:"extra"`
	Differs  int    `json:"differs,omitempty"`
	Repaired int    `json:"repaired"`
	Calls    int    `json:"calls"`
	Detail   string `json:"detail,omitempty"`
}

// Gaps is how many records differ.
func (a Audit) Gaps() int { return a.Missing + a.Stale + a.Extra + a.Differs }

// SaveAudit keeps the newest verdict on each entity of a realm and sink.
func (s *Store) SaveAudit(ctx context.Context, a Audit) error {
	text, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("encode audit of realm %s: %w", a.Realm, err)
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	pipe := s.db.TxPipeline()
	pipe.HSet(ctx, Key("audit", a.Realm), pairField(a.Sink, a.Entity), text)
	pipe.Expire(ctx, Key("audit", a.Realm), auditsKept)
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("save audit of realm %s: %w", a.Realm, err)
	}
	return nil
}

// Audits returns the newest verdicts on a realm, sorted by sink and entity.
func (s *Store) Audits(ctx context.Context, realm string) ([]Audit, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	texts, err := s.db.HVals(ctx, Key("audit", realm)).Result()
	if err != nil {
		return nil, fmt.Errorf("read audits of realm %s: %w", realm, err)
	}
	audits := make([]Audit, len(texts))
	for i, text := range texts {
		if err := json.Unmarshal([]byte(text), &audits[i]); err != nil {
			return nil, fmt.Errorf("decode audit of realm %s: %w", realm, err)
		}
	}
	slices.SortFunc(audits, func(a, b Audit) int { return cmp.Or(cmp.Compare(a.Sink, b.Sink), cmp.Compare(a.Entity, b.Entity)) })
	return audits, nil
}

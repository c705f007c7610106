package state

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
)

// MaxRefusals is how many refusals of a realm are kept.
const MaxRefusals = 100

// The ways of asking for an entity that can be refused.
const (
	RefusedByCDC    = "cdc"    // ChangeDataCapture does not serve it: it is scanned by Query
	RefusedByQuery  = "query"  // nothing serves it: it is left out
	RefusedByFilter = "filter" // it is served, but not by a condition: all of it is read
	// RefusedByCount: it is served, but COUNT is refused. It is never lasting: versions that
	// do not know it read a lasting refusal as one of the entity.
	RefusedByCount = "count"
)

// Refusal is an entity that the API does not serve in a realm.
type Refusal struct {
	Entity string    `json:"-"`
	Way    string    `json:"-"`              // of asking: cdc, query, filter, count
	At     time.Time `json:"at"`             // of the last response, in milliseconds
	First  time.Time `json:"first,omitzero"` // of the first one in a row
	Tries  int       `json:"tries,omitempty"`
	Text   string    `json:"text,omitempty"` // Intuit's
	// Lasting refusals are concluded: the entity is left out. Others may be a momentary
	// failure: the entity is asked for again at Next.
	Lasting bool      `json:"lasting,omitempty"`
	Next    time.Time `json:"next,omitzero"`
}

// Words says what a refusal means.
func (r Refusal) Words() string {
	switch {
	case r.Way == RefusedByCDC:
		return "scanned by Query, ChangeDataCapture refuses it"
	case r.Way == RefusedByFilter:
		return "read as a whole, QuickBooks does not filter it"
	case r.Way == RefusedByCount:
		return "not counted, QuickBooks refuses COUNT: its deletions are found by reading all of it"
	case r.Lasting:
		return "left out since " + r.First.UTC().Format(time.DateOnly) + ", QuickBooks refuses it for this company"
	}
	return "refused by QuickBooks, will retry"
}

// Refusals returns what the API has refused in a realm, sorted by entity.
func (s *Store) Refusals(ctx context.Context, realm string) ([]Refusal, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	pipe := s.db.Pipeline()
	lasting, details := pipe.HGetAll(ctx, Key("refused", realm)), pipe.HGetAll(ctx, Key("refusal", realm))
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("read what realm %s refuses: %w", realm, err)
	}
	by := map[string]Refusal{}
	for field, text := range details.Val() {
		var r Refusal
		if json.Unmarshal([]byte(text), &r) != nil || r.Lasting {
			continue // a lasting one counts if the other key has it: an earlier version may have forgotten it there
		}
		by[field] = r
	}
	for field, text := range lasting.Val() {
		var r Refusal
		_ = json.Unmarshal([]byte(details.Val()[field]), &r) // without details it is of an earlier version
		ms, _ := strconv.ParseInt(text, 10, 64)
		r.At, r.Lasting, r.Next = fromMillis(ms), true, time.Time{}
		if r.First.IsZero() {
			r.First = r.At
		}
		by[field] = r
	}
	var all []Refusal
	for field, r := range by {
		r.Entity, r.Way = pairOf(field)
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b Refusal) int {
		return cmp.Or(cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.Way, b.Way))
	})
	return all, nil
}

// Refused keeps one. Beyond [MaxRefusals] a new one is not kept: the entity is asked
// for, and refused, again.
func (s *Store) Refused(ctx context.Context, realm string, r Refusal) error {
	if sabotage.On(sabotage.RefusalForgotten) {
		return nil
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	lasting, details, field := Key("refused", realm), Key("refusal", realm), pairField(r.Entity, r.Way)
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode what realm %s refuses: %w", realm, err)
	}
	n, err := s.db.HLen(ctx, details).Result()
	if err == nil && n >= MaxRefusals && !s.db.HExists(ctx, details, field).Val() {
		return nil
	}
	if err == nil {
		pipe := s.db.TxPipeline()
		pipe.HSet(ctx, details, field, text)
		if r.Lasting {
			pipe.HSet(ctx, lasting, field, millis(r.At))
		} else {
			pipe.HDel(ctx, lasting, field)
		}
		_, err = pipe.Exec(ctx)
	}
	if err != nil {
		return fmt.Errorf("note what realm %s refuses: %w", realm, err)
	}
	return nil
}

// Accepted removes one: the API serves the entity.
func (s *Store) Accepted(ctx context.Context, realm string, r Refusal) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	field := pairField(r.Entity, r.Way)
	pipe := s.db.TxPipeline()
	pipe.HDel(ctx, Key("refused", realm), field)
	pipe.HDel(ctx, Key("refusal", realm), field)
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("forget what realm %s refused: %w", realm, err)
	}
	return nil
}

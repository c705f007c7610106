package state

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// DeletionState is what became of deletions that a scan held back.
type DeletionState string

const (
	// DeletionHeld waits for a person, or for a second scan hours later.
	DeletionHeld DeletionState = "held"
	// DeletionApproved: the next scan publishes what QuickBooks still does not return.
	DeletionApproved DeletionState = "approved"
	// DeletionRejected: the records stay. The entry remains so that the next
	// observation of that kind takes longer to count.
	DeletionRejected DeletionState = "rejected"
)

// ErrNotHeld says that no deletions of that entity are held for the realm.
var ErrNotHeld = errors.New("no deletions are held")

// rejectionMemory is how long a rejection makes later observations take longer.
const rejectionMemory = 30 * 24 * time.Hour

// HeldDeletion are the deletions of one entity of a realm that a scan did not publish,
// because they were too many for QuickBooks' silence alone.
type HeldDeletion struct {
	Realm  string        `json:"realm"`
	Entity string        `json:"entity"`
	State  DeletionState `json:"state"`
	// Count is how many of Of records QuickBooks did not return; Sample names some.
	Count  int      `json:"count"`
	Of     int      `json:"of"`
	Sample []string `json:"sample,omitempty"`
	// Since is when they were first held, At when a scan last saw them absent, by
	// Intuit's clock. What was missed after At is none of them.
	Since time.Time `json:"since"`
	At    time.Time `json:"at"`
	// Rejections is how often a person rejected such deletions of late.
	Rejections int       `json:"rejections,omitempty"`
	By         string    `json:"by,omitempty"`
	Decided    time.Time `json:"decided,omitzero"`

	stored string // as Redis holds it
}

const heldKey = durable + "deletions"

// HeldDeletions are all there are, sorted by realm and entity, those decided included.
func (s *Store) HeldDeletions(ctx context.Context) ([]HeldDeletion, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	fields, err := s.db.HGetAll(ctx, heldKey).Result()
	if err != nil {
		return nil, fmt.Errorf("read the held deletions: %w", err)
	}
	all := make([]HeldDeletion, 0, len(fields))
	for _, text := range fields {
		h, err := s.parseHeld(text)
		if err != nil {
			return nil, err
		}
		if h.State != "" {
			all = append(all, h)
		}
	}
	slices.SortFunc(all, func(a, b HeldDeletion) int {
		return cmp.Or(cmp.Compare(a.Realm, b.Realm), cmp.Compare(a.Entity, b.Entity))
	})
	return all, nil
}

// HeldDeletion returns that of an entity of a realm; without State if there is none.
func (s *Store) HeldDeletion(ctx context.Context, realm, entity string) (HeldDeletion, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	text, err := s.db.HGet(ctx, heldKey, pairField(realm, entity)).Result()
	if errors.Is(err, redis.Nil) {
		return HeldDeletion{Realm: realm, Entity: entity}, nil
	}
	if err != nil {
		return HeldDeletion{}, fmt.Errorf("read the held deletions of %s of realm %s: %w", entity, realm, err)
	}
	h, err := s.parseHeld(text)
	h.Realm, h.Entity = realm, entity
	return h, err
}

// parseHeld drops a rejection that is too old to count.
func (s *Store) parseHeld(text string) (HeldDeletion, error) {
	var h HeldDeletion
	if err := json.Unmarshal([]byte(text), &h); err != nil {
		return h, fmt.Errorf("decode held deletions: %w", err)
	}
	if h.State == DeletionRejected && s.now().Sub(h.Decided) > rejectionMemory {
		h = HeldDeletion{}
	}
	h.stored = text
	return h, nil
}

// HoldDeletion stores h in place of what [Store.HeldDeletion] returned it from. If a
// person has decided meanwhile, that stays.
func (s *Store) HoldDeletion(ctx context.Context, h HeldDeletion) error {
	text, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("encode held deletions: %w", err)
	}
	return s.swapHeld(ctx, h, string(text))
}

// EndHeldDeletion removes h: nothing of it is left to decide.
func (s *Store) EndHeldDeletion(ctx context.Context, h HeldDeletion) error {
	return s.swapHeld(ctx, h, "")
}

func (s *Store) swapHeld(ctx context.Context, h HeldDeletion, text string) error {
	field := pairField(h.Realm, h.Entity)
	var err error
	if h.stored == "" && text == "" {
		return nil
	}
	if h.stored == "" {
		short, cancel := s.bound(ctx)
		defer cancel()
		err = s.db.HSetNX(short, heldKey, field, text).Err()
	} else {
		err = s.script(ctx, followEndScript, []string{heldKey}, field, h.stored, text)
	}
	if err != nil {
		return fmt.Errorf("hold deletions of %s of realm %s: %w", h.Entity, h.Realm, err)
	}
	return nil
}

// ApproveDeletion lets the next scan publish the deletions that are held, of what
// QuickBooks then still does not return. Make the realm due afterwards. It returns an
// error that wraps [ErrNotHeld] if there are none.
func (s *Store) ApproveDeletion(ctx context.Context, realm, entity, by string) (HeldDeletion, error) {
	return s.decide(ctx, realm, entity, by, func(h *HeldDeletion) { h.State = DeletionApproved })
}

// RejectDeletion keeps the records and forgets that they were absent. Each rejection
// makes the next observation take four times as long to count.
func (s *Store) RejectDeletion(ctx context.Context, realm, entity, by string) (HeldDeletion, error) {
	h, err := s.decide(ctx, realm, entity, by, func(h *HeldDeletion) {
		h.State = DeletionRejected
		h.Rejections++
	})
	if err != nil {
		return h, err
	}
	// A crash in between leaves absences that are held again, not deletions.
	absent, err := s.Absences(ctx, realm)
	if err != nil {
		return h, err
	}
	refs := make([]Ref, 0, len(absent[entity]))
	for _, a := range absent[entity] {
		refs = append(refs, a.Ref)
	}
	return h, s.EndAbsences(ctx, realm, refs)
}

func (s *Store) decide(ctx context.Context, realm, entity, by string, change func(*HeldDeletion)) (HeldDeletion, error) {
	h, err := s.HeldDeletion(ctx, realm, entity)
	if err != nil {
		return h, err
	}
	if h.State != DeletionHeld {
		return h, fmt.Errorf("%s of realm %s: %w", entity, realm, ErrNotHeld)
	}
	change(&h)
	h.By, h.Decided = by, s.now().UTC().Truncate(time.Millisecond)
	if err := s.HoldDeletion(ctx, h); err != nil {
		return h, err
	}
	now, err := s.HeldDeletion(ctx, realm, entity)
	if err == nil && now.State != h.State {
		err = fmt.Errorf("%s of realm %s changed in the meantime: %w", entity, realm, ErrNotHeld)
	}
	return now, err
}

package state

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// maxRecordRefusals bounds the records of a realm whose refusals are kept.
	maxRecordRefusals = 10_000
	// recordRefusalsKept is how long they stay after the last one.
	recordRefusalsKept = 3 * time.Hour
)

// RecordRefusal is how often and since when the reads of a record were refused by
// responses of one meaning, without one that succeeded. A processor that restarts goes on
// from there.
type RecordRefusal struct {
	Ref     `json:"-"`
	Meaning string    `json:"meaning"`
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
	Times   int       `json:"times"`
}

func recordRefusalsKey(realm string) string { return Key("unread", realm) }

// RecordRefusals returns those of records, in their order; a zero one where none is kept.
func (s *Store) RecordRefusals(ctx context.Context, realm string, refs []Ref) ([]RecordRefusal, error) {
	all := make([]RecordRefusal, 0, len(refs))
	for part := range slices.Chunk(refs, batch) {
		fields := make([]string, len(part))
		for i, ref := range part {
			fields[i] = pairField(ref.Entity, ref.ID)
		}
		bound, cancel := s.bound(ctx)
		texts, err := s.db.HMGet(bound, recordRefusalsKey(realm), fields...).Result()
		cancel()
		if err != nil {
			return nil, fmt.Errorf("read the record refusals of realm %s: %w", realm, err)
		}
		for i, ref := range part {
			var r RecordRefusal
			if text, ok := texts[i].(string); ok && json.Unmarshal([]byte(text), &r) != nil {
				r = RecordRefusal{}
			}
			r.Ref = ref
			all = append(all, r)
		}
	}
	return all, nil
}

// KeepRecordRefusals stores them. Beyond 10,000 of a realm no more are kept.
func (s *Store) KeepRecordRefusals(ctx context.Context, realm string, refusals []RecordRefusal) error {
	for part := range slices.Chunk(refusals, batch) {
		if err := s.keepRecordRefusals(ctx, realm, part); err != nil {
			return fmt.Errorf("save the record refusals of realm %s: %w", realm, err)
		}
	}
	return nil
}

func (s *Store) keepRecordRefusals(ctx context.Context, realm string, refusals []RecordRefusal) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	key := recordRefusalsKey(realm)
	n, err := s.db.HLen(ctx, key).Result()
	if err != nil {
		return err
	}
	_, err = s.db.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, r := range refusals {
			if n >= maxRecordRefusals && r.Times == 1 {
				continue
			}
			text, err := json.Marshal(r)
			if err != nil {
				return err
			}
			pipe.HSet(ctx, key, pairField(r.Entity, r.ID), text)
		}
		pipe.PExpire(ctx, key, recordRefusalsKept)
		return nil
	})
	return err
}

// EndRecordRefusals removes those of records that were read, or given up.
func (s *Store) EndRecordRefusals(ctx context.Context, realm string, refs []Ref) error {
	for part := range slices.Chunk(refs, batch) {
		fields := make([]string, len(part))
		for i, ref := range part {
			fields[i] = pairField(ref.Entity, ref.ID)
		}
		bound, cancel := s.bound(ctx)
		err := s.db.HDel(bound, recordRefusalsKey(realm), fields...).Err()
		cancel()
		if err != nil {
			return fmt.Errorf("clear the record refusals of realm %s: %w", realm, err)
		}
	}
	return nil
}

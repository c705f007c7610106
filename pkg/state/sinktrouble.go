package state

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// troubleLife is how long the troubles of a sink are kept after one was last noted: a
// replica that ended does not end its own.
const troubleLife = time.Minute

// SinkTrouble is what a replica of the processor knows of a sink that takes nothing.
type SinkTrouble struct {
	Replica string `json:"replica"`
	// Error is what the last write failed with; it shows no secret.
	Error string `json:"error"`
	// Since is when the first of the failures in a row happened, Last the last one.
	Since time.Time `json:"since"`
	Last  time.Time `json:"last"`
	// Failures is how many there were in a row.
	Failures int `json:"failures"`
	// Next is when the next write is tried.
	Next time.Time `json:"next"`
}

// NoteSinkTrouble records that a sink takes nothing. It is forgotten a minute later
// unless it is noted again.
func (s *Store) NoteSinkTrouble(ctx context.Context, sink string, t SinkTrouble) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	text, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("record the trouble of sink %s: %w", sink, err)
	}
	key := ephemeralKey("trouble", sink)
	pipe := s.db.Pipeline()
	pipe.HSet(ctx, key, t.Replica, text)
	pipe.PExpire(ctx, key, troubleLife)
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("record the trouble of sink %s: %w", sink, err)
	}
	return nil
}

// EndSinkTrouble says that a replica can write to the sink again.
func (s *Store) EndSinkTrouble(ctx context.Context, sink, replica string) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := s.db.HDel(ctx, ephemeralKey("trouble", sink), replica).Err(); err != nil {
		return fmt.Errorf("clear the trouble of sink %s: %w", sink, err)
	}
	return nil
}

// SinkTroubles returns what the replicas say of a sink, those with the last failure
// first; none where writes succeed or no processor runs.
func (s *Store) SinkTroubles(ctx context.Context, sink string) ([]SinkTrouble, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	fields, err := s.db.HVals(ctx, ephemeralKey("trouble", sink)).Result()
	if err != nil {
		return nil, fmt.Errorf("read the trouble of sink %s: %w", sink, err)
	}
	var all []SinkTrouble
	for _, text := range fields {
		var t SinkTrouble
		if json.Unmarshal([]byte(text), &t) == nil { // else it is of another version
			all = append(all, t)
		}
	}
	slices.SortFunc(all, func(a, b SinkTrouble) int {
		if c := b.Last.Compare(a.Last); c != 0 {
			return c
		}
		return strings.Compare(a.Replica, b.Replica)
	})
	return all, nil
}

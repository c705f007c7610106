package state

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Series names a time series of samples, a ring: a new sample takes the place of one
// that is too old. Any number of processes may write the same.
type Series struct {
	Name string
	Step time.Duration
	Size int
}

// HourSeries is an hour by ten seconds.
func HourSeries() Series { return Series{"hour", 10 * time.Second, 360} }

// DaySeries is a day by minutes.
func DaySeries() Series { return Series{"day", time.Minute, 1440} }

// Sample is what was measured at a time.
type Sample struct {
	At     time.Time          `json:"at"` // seconds
	Values map[string]float64 `json:"v"`
}

func (r Series) key() string { return durable + "series:{app}:" + r.Name }

// AddSample puts a sample into its place in the ring.
func (s *Store) AddSample(ctx context.Context, r Series, x Sample) error {
	x.At = x.At.UTC().Truncate(r.Step)
	text, err := json.Marshal(x)
	if err != nil {
		return fmt.Errorf("encode sample: %w", err)
	}
	slot := x.At.Unix() / int64(r.Step/time.Second) % int64(r.Size)
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := s.db.HSet(ctx, r.key(), slot, text).Err(); err != nil {
		return fmt.Errorf("save sample: %w", err)
	}
	return nil
}

// Samples returns those of a series that are not too old at now, oldest first.
func (s *Store) Samples(ctx context.Context, r Series, now time.Time) ([]Sample, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	texts, err := s.db.HVals(ctx, r.key()).Result()
	if err != nil {
		return nil, fmt.Errorf("read samples: %w", err)
	}
	from := now.Add(-time.Duration(r.Size) * r.Step)
	var samples []Sample
	for _, text := range texts {
		var x Sample
		if err := json.Unmarshal([]byte(text), &x); err != nil {
			return nil, fmt.Errorf("decode sample: %w", err)
		}
		if x.At.After(from) && !x.At.After(now) {
			samples = append(samples, x)
		}
	}
	slices.SortFunc(samples, func(a, b Sample) int { return cmp.Compare(a.At.Unix(), b.At.Unix()) })
	return samples, nil
}

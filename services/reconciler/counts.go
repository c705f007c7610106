package reconciler

import (
	"context"
	"hash/fnv"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// countAll counts the records of the entities that CDC has answered for, once in
// reconciler.query_interval: a record that goes without a word of CDC (a list record
// merged away, a deletion that an answer was cut off before) is one less than was
// delivered. An entity of which nothing was delivered costs no call. The first time is
// spread, so that not all realms are counted on the day of an upgrade.
func (s *scan) countAll(ctx context.Context, o order, fs []*finding) error {
	if o.entities != nil || o.load {
		return nil
	}
	every := s.r.config.queryInterval()
	last, err := s.r.state.Counted(ctx, s.realm)
	if err != nil {
		return err
	}
	now := s.r.now()
	if last.IsZero() || last.After(now) {
		h := fnv.New64a()
		_, _ = h.Write([]byte(s.realm)) // never fails
		return s.r.state.SetCounted(ctx, s.realm, now.Add(-time.Duration(h.Sum64()%uint64(every))))
	}
	if now.Sub(last) < every {
		return nil
	}
	whole := true
	for _, f := range fs {
		if f.query || f.changedSince.IsZero() || f.load || !f.done {
			continue // Query was asked, and counts by itself
		}
		if err := s.countOne(ctx, f); err != nil {
			if fatal(ctx, err) {
				return err
			}
			whole = false
			s.log.Warn("records not counted, the next scan does it", telemetry.Entity(f.entity), telemetry.Error(err))
		}
	}
	if !whole {
		return nil
	}
	return s.r.state.SetCounted(ctx, s.realm, now)
}

// countOne compares the records of an entity with QuickBooks' number of them. What CDC
// showed has changed since f.since and is not among the older ones any more.
func (s *scan) countOne(ctx context.Context, told *finding) error {
	f := newFinding(told.task)
	f.told = true
	if err := s.delivered(ctx, f); err != nil || f.held.Len()+len(f.undelivered) == 0 {
		return err
	}
	told.seen.each(f.shown)
	same, err := s.counted(ctx, f)
	if err != nil || same {
		return err
	}
	if err := s.sweep(ctx, f); err != nil {
		return err
	}
	if err := s.absentees(ctx, f, 0, secondOf(f.since)); err != nil {
		return err
	}
	if err := s.confirmNoted(ctx, f); err != nil {
		return err
	}
	return s.verifyToo(ctx, f)
}

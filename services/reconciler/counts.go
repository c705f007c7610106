package reconciler

import (
	"context"
	"hash/fnv"
	"slices"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// countedADay is how many calls beside CDC a scan of the schedule makes at most, where
// it counts entities: those that Query finds come first.
const countedADay = 2

// countAll counts the records of the entities that CDC has answered for, each once in
// reconciler.query_interval: a record that goes without a word of CDC (a list record
// merged away, a deletion that an answer was cut off before) is one less than was
// delivered. An entity of which nothing was delivered costs no call. A scan counts no
// more than fit into its calls, those first whose count is the longest ago; a recovery
// counts only what has waited eight times as long, as where every scan is one. The first time is spread, so that not all are counted on the day of an
// upgrade.
func (s *scan) countAll(ctx context.Context, o order, fs []*finding) error {
	if o.entities != nil || o.load {
		return nil
	}
	every, now := s.r.config.queryInterval(), s.r.now()
	last, err := s.r.state.Counted(ctx, s.realm)
	if err != nil {
		return err
	}
	room := countedADay - s.extraCalls()
	var told []*finding
	first := map[string]time.Time{}
	for _, f := range fs {
		switch at, known := last[f.entity]; {
		case f.query || f.changedSince.IsZero() || f.load:
			room-- // Query was asked, and counts by itself
		case !f.done:
		case !known || at.After(now):
			h := fnv.New64a()
			_, _ = h.Write([]byte(s.realm + "/" + f.entity)) // never fails
			first[f.entity] = now.Add(-time.Duration(h.Sum64() % uint64(every)))
		case now.Sub(at) >= every:
			told = append(told, f)
		}
	}
	if err := s.r.state.SetCounted(ctx, s.realm, first); err != nil {
		return err
	}
	slices.SortStableFunc(told, func(a, b *finding) int { return last[a.entity].Compare(last[b.entity]) })
	for _, f := range told {
		waited := now.Sub(last[f.entity])
		if !o.everything && (room <= 0 && waited < 2*every || o.recovery && waited < 8*every) {
			return nil
		}
		before := s.callsMade()
		switch err := s.countOne(ctx, f); {
		case err != nil && blocked(ctx, err):
			return err
		case err != nil && (causeOf(ctx, err) == causeNone || momentary(err)):
			s.log.Warn("records not counted; the next scan will retry", telemetry.Entity(f.entity), telemetry.Error(err))
			continue
		case err != nil:
			s.log.Warn("count refused by quickbooks", telemetry.Entity(f.entity), telemetry.Error(err))
		}
		room -= s.callsMade() - before
		if err := s.r.state.SetCounted(ctx, s.realm, map[string]time.Time{f.entity: now}); err != nil {
			return err
		}
	}
	return nil
}

// extraCalls are the successful calls that refusals have cost.
func (s *scan) extraCalls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.extra
}

func (s *scan) callsMade() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
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

package reconciler

import (
	"context"
	"fmt"
	"hash/crc32"
	"slices"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// readUse reads which of the entities that only Query can find the realm uses: a count
// has found some, a sink has records of it, or a webhook of it came.
func (s *scan) readUse(ctx context.Context, o order) error {
	var wanted []string
	for _, name := range s.r.config.QueryEntities {
		if o.wants(name) {
			wanted = append(wanted, name)
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	var err error
	if s.use, err = s.r.state.EntityUse(ctx, s.realm); err != nil {
		return err
	}
	wanted = slices.DeleteFunc(wanted, func(name string) bool { return s.use[name].Used })
	delivered, err := s.r.state.Delivered(ctx, s.realm, s.sinks, wanted)
	if err != nil {
		return err
	}
	s.used = delivered
	asks := func(name string) bool {
		return !delivered[name] && (o.everything || o.recovery || s.due(name, s.r.now()))
	}
	if !slices.ContainsFunc(wanted, asks) {
		return nil
	}
	webhooks, err := s.r.state.Freshness(ctx, s.realm)
	for _, w := range webhooks {
		s.used[w.Entity] = true
	}
	return err
}

// uses reports whether the realm is known to use an entity.
func (s *scan) uses(name string) bool { return s.used[name] || s.use[name].Used }

// hasCounted reports whether a count has found records of the entity that were not loaded
// yet: the cursor moves to the time of the count when they are delivered.
func (s *scan) hasCounted(name string) bool {
	u := s.use[name]
	return u.Used && !u.Counted.IsZero() && s.cursors[name].Before(u.Counted.Add(-margin).Truncate(time.Second))
}

const (
	// unusedTurns is after how many intervals an entity is counted that the realm does
	// not use: with all of them a quiet day stays at three calls.
	unusedTurns = 2
	// quietDay is how many calls beside CDC a scan of a quiet realm may make.
	quietDay = 2
)

// announced reports whether webhooks tell of the changes of an entity.
func announced(name string) bool {
	info, _ := entity.Lookup(name)
	return len(info.Operations) > 0
}

// longest is how far apart two turns of an entity are at most.
func (s *scan) longest(name string) time.Duration {
	every := s.r.config.queryInterval()
	if !announced(name) {
		every = s.r.config.unannouncedInterval()
	}
	if !s.uses(name) {
		every *= unusedTurns
	}
	return every
}

// due reports whether an entity that only Query can find was not asked for since its
// last turn. The turns of a realm are spread evenly over the interval, and those of
// different realms lie apart. One that no webhook announces has further turns while it
// changes: after a tenth of the time since its last change.
func (s *scan) due(name string, now time.Time) bool {
	cursor := s.cursors[name]
	// A cursor is by Intuit's clock. One that is ahead of ours says that ours is wrong,
	// and nothing of how long ago it moved.
	if cursor.After(now) {
		return true
	}
	calm := now.Sub(cursor.Add(margin)) < s.r.calm(s.longest(name))
	if !calm && cursor.Add(margin).Before(s.r.lastTurn(s.realm, name, now, s.longest(name))) {
		return true
	}
	changed := s.use[name].Changed
	// What a company says of itself posts nothing: a turn a week will do.
	if name == companyInfo || announced(name) || !s.uses(name) || changed.IsZero() {
		return false
	}
	every := max(now.Sub(changed)/10, s.r.config.Interval)
	// A daily scan is never quite a day after the last one.
	return every < s.longest(name) && !now.Before(cursor.Add(margin+every-s.r.config.Interval/2))
}

// calm is how long after an entity was asked for no turn of its own is due: that of the
// day after a load is taken on the next day.
func (r *Reconciler) calm(every time.Duration) time.Duration {
	return min(r.config.Interval*3/2, every/2)
}

// late reports whether an entity has missed the turn before its last one, too, or has
// waited for half an interval more.
func (s *scan) late(name string, now time.Time) bool {
	every := s.longest(name)
	if s.isLeft(name) {
		return s.use[name].Counted.Before(now.Add(-every / unusedTurns))
	}
	asked := s.cursors[name].Add(margin)
	return asked.Before(s.r.lastTurn(s.realm, name, now, every).Add(-every)) || asked.Before(now.Add(-every*3/2))
}

// lastTurn is the last time up to now at which it was the turn of an entity.
func (r *Reconciler) lastTurn(realm, name string, now time.Time, every time.Duration) time.Time {
	n := len(r.config.QueryEntities)
	rank := max(slices.Index(r.config.QueryEntities, name), 0)
	offset := time.Duration(float64(crc32.ChecksumIEEE([]byte(realm))) / (1 << 32) * float64(every))
	offset += every / time.Duration(max(n, 1)) * time.Duration(rank)
	since := now.Sub(time.Unix(0, 0).Add(offset))
	return now.Add(-(since % every))
}

// countsAtOnce is how many entities that the realm does not use a scan may count: as many
// as have had their turn since the last one. A recovery leaves them to the days that
// follow, but for one that is late, so that all are counted where each scan is a recovery.
func (s *scan) countsAtOnce(o order) int {
	if o.recovery || s.pace.Scanned.IsZero() {
		return 1
	}
	every := unusedTurns * min(s.r.config.queryInterval(), s.r.config.unannouncedInterval())
	turns := float64(s.r.now().Sub(s.pace.Scanned)) / float64(every) * float64(len(s.r.config.QueryEntities))
	return max(1, int(turns)+1)
}

// planQuery decides what a scan asks of the entities that only Query can find: all of
// them if everything is wanted, those in use on their turn and in a recovery, and a count
// of the others on their turn.
func (s *scan) planQuery(now time.Time, o order) []*finding {
	var fs, counts []*finding
	for _, name := range s.r.config.QueryEntities {
		if s.unknown(name, now) || !o.wants(name) || s.hasLoaded(o, name) {
			continue
		}
		t := s.task(name, now, o)
		t.changedSince, t.query = time.Time{}, true
		if s.hasCounted(name) {
			t.fromBeginning(s.loaded[name])
		}
		before := s.refusal(name).query
		due := s.due(name, now) || o.again || known(before) && !before.Lasting
		if s.isLeft(name) && s.leaves(o, name) {
			if !o.first && due && now.Sub(s.use[name].Counted) >= s.r.calm(s.longest(name)) {
				t.load, t.count = false, true
				counts = append(counts, newFinding(t))
			}
			continue
		}
		switch {
		case t.load, o.everything, s.uses(name) && (due || o.recovery):
			fs = append(fs, newFinding(t))
		case due && !s.uses(name) && (!o.recovery || s.late(name, now)):
			t.count = true
			counts = append(counts, newFinding(t))
		}
	}
	slices.SortStableFunc(counts, func(a, b *finding) int { return a.cursor.Compare(b.cursor) })
	if o.again {
		return append(fs, counts...)
	}
	counts = counts[:min(len(counts), s.countsAtOnce(o))]
	if s.r.now().Sub(s.pace.Scanned) < 2*s.r.config.Interval && len(fs)+len(counts) > quietDay {
		// What waits is late some day, and is counted then.
		room := min(max(quietDay-len(fs), 0), len(counts))
		late := slices.DeleteFunc(slices.Clone(counts[room:]), func(f *finding) bool { return !s.late(f.entity, now) })
		counts = append(counts[:room], late...)
	}
	return append(fs, counts...)
}

// fromBeginning makes the task a load, which goes on from loaded.
func (t *task) fromBeginning(loaded time.Time) {
	t.load, t.grace = true, false
	t.loaded, t.since = loaded, time.Time{}
	if !loaded.IsZero() {
		t.since = loaded.Add(-overlap).Truncate(time.Second)
	}
}

// ask asks Query for an entity. One that the realm does not use is only counted, and read
// from its first record on if it has some after all.
func (s *scan) ask(ctx context.Context, f *finding) error {
	if !f.count {
		return s.query(ctx, f)
	}
	n, at, err := s.countOrAny(ctx, f)
	if err != nil {
		return fmt.Errorf("count %s: %w", f.entity, err)
	}
	s.r.metrics.counts.WithLabelValues(f.entity).Inc()
	f.answered(at)
	if n == 0 {
		s.accepts(ctx, f, wayQuery)
		f.counted = at
		return s.conclude(ctx, ledgerfeedv1.Source_SOURCE_QUERY, []*finding{f}, nil)
	}
	// Before the first record: should the load be broken off, the next scan must not go
	// on from the cursor.
	use := state.EntityUse{Used: true, Counted: at}
	if err := s.r.state.SetEntityUse(ctx, s.realm, map[string]state.EntityUse{f.entity: use}); err != nil {
		return err
	}
	s.log.Info("entity now in use; loading it", telemetry.Entity(f.entity), telemetry.Count(n))
	s.mu.Lock()
	f.fromBeginning(time.Time{})
	s.mu.Unlock()
	return s.query(ctx, f)
}

// keepUse records what the scan has learned about the use of entities. If that fails it
// is learned again.
func (s *scan) keepUse(ctx context.Context) {
	learned := map[string]state.EntityUse{}
	for _, f := range s.findings {
		if !slices.Contains(s.r.config.QueryEntities, f.entity) {
			continue
		}
		before, known := s.use[f.entity]
		now := before
		switch {
		case f.count && f.load, f.unused:
			continue // recorded when it was counted, or left
		case f.items > 0 || s.uses(f.entity):
			now.Used = true
			if !s.hasCounted(f.entity) {
				now.Counted = time.Time{} // all of it is loaded
			}
		case !f.counted.IsZero():
			now.Counted = f.counted.UTC().Truncate(time.Second)
		case f.load && f.done && !f.time.IsZero():
			now.Counted = f.time.UTC().Truncate(time.Second)
		}
		if f.latest.After(now.Changed) {
			now.Changed = f.latest.UTC().Truncate(time.Second)
		}
		if now != before || !known {
			learned[f.entity] = now
		}
	}
	if err := s.r.state.SetEntityUse(ctx, s.realm, learned); err != nil {
		s.log.Debug("use of entities not recorded", telemetry.Error(err))
	}
}

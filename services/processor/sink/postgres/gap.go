package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

// keepGaps takes a batch as one array a column. A gap may come again, from a scan that
// was repeated; what was said first stays, but that its webhook came late.
const keepGaps = `
INSERT INTO {{gap}} AS held (realm, entity, id, version, operation, event_at, found_at, source, verdict, late_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::timestamptz[], $7::timestamptz[],
                     $8::text[], $9::text[], $10::timestamptz[])
ON CONFLICT (realm, entity, id, version) DO UPDATE SET verdict = excluded.verdict, late_at = excluded.late_at
WHERE held.late_at IS NULL AND excluded.late_at IS NOT NULL`

// KeepGaps stores gaps in the table gap beside the sink's, each once.
func (s *Sink) KeepGaps(ctx context.Context, gaps []sink.Gap) error {
	if len(gaps) == 0 {
		return nil
	}
	if err := s.ready(ctx); err != nil {
		return fmt.Errorf("write gaps to %s: %w", s.gap(), err)
	}
	if _, err := s.exec(ctx, s.names().Replace(keepGaps), gapColumns(gaps)...); err != nil {
		return fmt.Errorf("write gaps to %s: %w", s.gap(), s.classify(err))
	}
	return nil
}

// gapColumns are the arguments of keepGaps, each gap once and in the order of the keys.
func gapColumns(gaps []sink.Gap) []any {
	order := func(a, b sink.Gap) int {
		return cmp.Or(cmp.Compare(a.Realm, b.Realm), cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Version, b.Version))
	}
	sorted := slices.SortedStableFunc(slices.Values(gaps), order)
	sorted = slices.CompactFunc(sorted, func(a, b sink.Gap) bool { return order(a, b) == 0 })
	n := len(sorted)
	var (
		realms, entities, ids        = make([]string, n), make([]string, n), make([]string, n)
		operations, sources, verdict = make([]string, n), make([]string, n), make([]string, n)
		versions                     = make([]int64, n)
		found                        = make([]time.Time, n)
		events, late                 = make([]*time.Time, n), make([]*time.Time, n)
	)
	for i, g := range sorted {
		realms[i], entities[i], ids[i], versions[i] = g.Realm, g.Entity, g.ID, g.Version
		operations[i], sources[i], verdict[i], found[i] = g.Operation, g.Source, g.Verdict, g.Found
		events[i], late[i] = orNull(g.Event), orNull(g.Late)
	}
	return []any{realms, entities, ids, versions, operations, events, found, sources, verdict, late}
}

// orNull is NULL for no time.
func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// trimGaps deletes gaps that were found too long ago.
const trimGaps = `
DELETE FROM {{gap}} WHERE ctid IN (
    SELECT ctid FROM {{gap}} WHERE found_at < now() - $2::interval ORDER BY found_at LIMIT $1)`

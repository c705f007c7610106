package reconciler

import (
	"context"
	"fmt"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// second reads one second in which a record fails every Query it is in, by
// halving the positions around it. Ids cannot be compared, only named, so which
// record it is stays open here.
func (k *keyset) second(ctx context.Context, at time.Time) error {
	q := k.base
	q.from, q.to = at, at.Add(time.Second)
	n, err := k.count(ctx, q)
	if err != nil {
		return fmt.Errorf("%w: count the records of %s: %w", errUnreadable, qbo.FormatTime(at), err)
	}
	seen := 0
	for q.start = 1; q.start <= n; q.start += maxRows {
		q.rows = min(n-q.start+1, maxRows)
		some, err := k.positions(ctx, q)
		if err != nil {
			return err
		}
		seen += some
	}
	// Had a row left the second meanwhile, another might have been skipped.
	left, err := k.count(ctx, q)
	if err != nil {
		return err
	}
	if left != n || seen != n {
		return fmt.Errorf("%w: the records of %s keep changing", errUnreadable, qbo.FormatTime(at))
	}
	return nil
}

// count asks how many records match.
func (k *keyset) count(ctx context.Context, q statement) (int, error) {
	res, err := k.query(ctx, q.count())
	return res.TotalCount, err
}

// positions reads the rows of one page and returns how many there are, those
// that fail included.
func (k *keyset) positions(ctx context.Context, q statement) (int, error) {
	res, err := k.query(ctx, q.String())
	switch {
	case err == nil:
		return rows(res), k.take(res)
	case !poisoned(ctx, err) && !tooLarge(err):
		return 0, err
	case q.rows == 1:
		k.unread(q.from)
		return 1, nil
	}
	if k.failed++; k.failed > maxFailed {
		return 0, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	first, second := q, q
	first.rows = q.rows / 2
	second.start, second.rows = q.start+first.rows, q.rows-first.rows
	n, err := k.positions(ctx, first)
	if err != nil {
		return 0, err
	}
	m, err := k.positions(ctx, second)
	return n + m, err
}

// suspect handles a record that fails alone, by its id. If it was last updated
// in a second with an unread record it is that one, and goes on the stream: the
// processor reads it by its id, which succeeds, or makes it a dead letter.
// Either lets the cursor move on.
func (s *scan) suspect(ctx context.Context, f *finding, id string) error {
	if s.uncounted(f.entity) {
		return nil // which of the seconds it is of cannot be asked
	}
	for i, second := range f.unread {
		n, _, err := s.count(ctx, statement{
			entity: f.entity, list: f.list, from: second, to: second.Add(time.Second), ids: []string{id},
		})
		if err != nil {
			return err
		}
		if n == 0 {
			continue
		}
		f.unread = append(f.unread[:i:i], f.unread[i+1:]...)
		s.r.metrics.poison.WithLabelValues(f.entity).Inc()
		s.log.Warn("quickbooks fails on a record", telemetry.Entity(f.entity), telemetry.EntityID(id), telemetry.At(second))
		item := qbo.Entity{Name: f.entity, ID: id, SyncToken: "0", LastUpdated: second}
		events, err := s.compareAll(ctx, f, []qbo.Entity{item})
		if err != nil {
			return err
		}
		return s.publish(ctx, ledgerfeedv1.Source_SOURCE_QUERY, events)
	}
	return nil
}

package postgres

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

// Snapshot is what the table holds of each entity, without the documents.
func (s *Sink) Snapshot(ctx context.Context) (map[sink.Ref]sink.Row, error) {
	if err := s.ready(ctx); err != nil {
		return nil, fmt.Errorf("read %s: %w", s.qualified(), err)
	}
	rows, err := s.pool.Query(ctx, "SELECT realm, entity, id, version, deleted, learned, coalesce(content_hash, ''), read_at FROM "+s.qualified())
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", s.qualified(), err)
	}
	held := map[sink.Ref]sink.Row{}
	var ref sink.Ref
	var row sink.Row
	var readAt *time.Time
	_, err = pgx.ForEachRow(rows, []any{&ref.Realm, &ref.Entity, &ref.ID, &row.Version, &row.Deleted, &row.Learned, &row.ContentHash, &readAt}, func() error {
		row.ReadAt = orZero(readAt)
		held[ref] = row
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", s.qualified(), err)
	}
	return held, nil
}

// Records are the rows of the table in the order of their keys.
func (s *Sink) Records(ctx context.Context) iter.Seq2[sink.Record, error] {
	return func(yield func(sink.Record, error) bool) {
		if err := s.ready(ctx); err != nil {
			yield(sink.Record{}, fmt.Errorf("read %s: %w", s.qualified(), err))
			return
		}
		rows, err := s.pool.Query(ctx, `SELECT realm, entity, id, version, sync_token, last_updated, deleted, operation,
			document, learned, learned_at, merged_into, event_id, coalesce(content_hash, ''), read_at FROM `+s.qualified()+` ORDER BY realm, entity, id`)
		if err != nil {
			yield(sink.Record{}, fmt.Errorf("read %s: %w", s.qualified(), err))
			return
		}
		defer rows.Close()
		for rows.Next() {
			var r sink.Record
			var readAt *time.Time
			err := rows.Scan(&r.Realm, &r.Entity, &r.ID, &r.Version, &r.SyncToken, &r.LastUpdated, &r.Deleted, &r.Operation,
				&r.Document, &r.Learned, &r.LearnedAt, &r.MergedInto, &r.EventID, &r.ContentHash, &readAt)
			r.ReadAt = orZero(readAt)
			if r.Key = r.Ref.Key(r.Version); r.ContentHash != "" {
				r.Key += "/" + r.ContentHash
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(sink.Record{}, fmt.Errorf("read %s: %w", s.qualified(), err))
		}
	}
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

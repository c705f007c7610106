package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

// Alive is how many records of an entity the table has that are not deleted.
func (s *Sink) Alive(ctx context.Context, realm, entity string) (n int, err error) {
	if err := s.ready(ctx); err != nil {
		return 0, fmt.Errorf("count %s: %w", s.qualified(), err)
	}
	const count = `SELECT count(*) FROM {{table}} WHERE realm = $1 AND entity = $2 AND NOT deleted`
	if err := s.pool.QueryRow(ctx, s.names().Replace(count), realm, entity).Scan(&n); err != nil {
		return 0, fmt.Errorf("count %s: %w", s.qualified(), err)
	}
	return n, nil
}

// Versions is what the table has of the records of an entity, by id; of all if ids is
// nil.
func (s *Sink) Versions(ctx context.Context, realm, entity string, ids []string) (map[string]sink.Row, error) {
	if err := s.ready(ctx); err != nil {
		return nil, fmt.Errorf("read %s: %w", s.qualified(), err)
	}
	const read = `SELECT id, version, deleted, learned, coalesce(content_hash, '') FROM {{table}}
		WHERE realm = $1 AND entity = $2 AND ($3::text[] IS NULL OR id = ANY ($3))`
	rows, err := s.pool.Query(ctx, s.names().Replace(read), realm, entity, ids)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", s.qualified(), err)
	}
	held := map[string]sink.Row{}
	var id string
	var row sink.Row
	_, err = pgx.ForEachRow(rows, []any{&id, &row.Version, &row.Deleted, &row.Learned, &row.ContentHash}, func() error {
		held[id] = row
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", s.qualified(), err)
	}
	return held, nil
}

// Documents returns the hash of each document that the table has of records, deleted ones
// left out. It reads the documents: what is stored beside them says what was written, not
// what is there. Of a document with characters replaced it is the hash of the original.
func (s *Sink) Documents(ctx context.Context, realm, entity string, ids []string) (map[string]string, error) {
	if err := s.ready(ctx); err != nil {
		return nil, fmt.Errorf("read the documents of %s: %w", s.qualified(), err)
	}
	const read = `SELECT id, document::text, CASE WHEN sanitized THEN coalesce(content_hash, '') ELSE '' END FROM {{table}}
		WHERE realm = $1 AND entity = $2 AND id = ANY ($3) AND NOT deleted AND document IS NOT NULL`
	rows, err := s.pool.Query(ctx, s.names().Replace(read), realm, entity, ids)
	if err != nil {
		return nil, fmt.Errorf("read the documents of %s: %w", s.qualified(), err)
	}
	hashes := map[string]string{}
	var id, original string
	var document []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &document, &original}, func() error {
		if hashes[id] = original; original == "" {
			hashes[id] = qbo.ContentHash(document)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the documents of %s: %w", s.qualified(), err)
	}
	return hashes, nil
}

// eachAtOnce is how many rows Each reads at a time.
const eachAtOnce = 10_000

// Each calls visit with what the table has of the records of an entity, in the order of
// their ids, some at a time: a company may have millions. A row that is changed
// meanwhile is shown as it is when it is read.
func (s *Sink) Each(ctx context.Context, realm, entity string, visit func(id string, row sink.Row) error) error {
	if err := s.ready(ctx); err != nil {
		return fmt.Errorf("read %s: %w", s.qualified(), err)
	}
	const read = `SELECT id, version, deleted, learned FROM {{table}} WHERE realm = $1 AND entity = $2 AND id > $3 ORDER BY id LIMIT $4`
	for after, n := "", eachAtOnce; n == eachAtOnce; {
		rows, err := s.pool.Query(ctx, s.names().Replace(read), realm, entity, after, eachAtOnce)
		if err != nil {
			return fmt.Errorf("read %s: %w", s.qualified(), err)
		}
		n = 0
		var row sink.Row
		_, err = pgx.ForEachRow(rows, []any{&after, &row.Version, &row.Deleted, &row.Learned}, func() error {
			n++
			return visit(after, row)
		})
		if err != nil {
			return fmt.Errorf("read %s: %w", s.qualified(), err)
		}
	}
	return nil
}

// Audit is a verdict on one entity of a realm: see the columns of the table.
type Audit struct {
	Run, Realm, Entity                                       string
	At, UpTo                                                 time.Time
	Verdict, Detail                                          string
	Records, Missing, Stale, Extra, Differs, Repaired, Calls int
}

// KeepAudit stores a verdict in the table audit beside the sink's.
func (s *Sink) KeepAudit(ctx context.Context, a Audit) error {
	if err := s.ready(ctx); err != nil {
		return fmt.Errorf("write audit to %s: %w", s.audit(), err)
	}
	const keep = `INSERT INTO {{audit}} (run, realm, entity, audited_at, verdict, up_to, records, missing, stale, extra, differs, repaired, calls, detail)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
		ON CONFLICT (run, realm, entity) DO UPDATE SET audited_at = excluded.audited_at, verdict = excluded.verdict,
			up_to = excluded.up_to, records = excluded.records, missing = excluded.missing, stale = excluded.stale,
			extra = excluded.extra, differs = excluded.differs, repaired = excluded.repaired, calls = excluded.calls, detail = excluded.detail`
	_, err := s.pool.Exec(ctx, s.names().Replace(keep), a.Run, a.Realm, a.Entity, a.At, a.Verdict, orNull(a.UpTo),
		a.Records, a.Missing, a.Stale, a.Extra, a.Differs, a.Repaired, a.Calls, a.Detail)
	if err != nil {
		return fmt.Errorf("write audit to %s: %w", s.audit(), err)
	}
	return nil
}

package postgres

import (
	"context"
	"fmt"
	"time"
)

const (
	eraseBatch   = 5000
	eraseTimeout = 30 * time.Minute
)

// erasures delete rows of a realm ($1) from a table each, up to eraseBatch ($2) where a
// writer could wait for them.
var erasures = []struct{ table, count, remove string }{
	{
		"entity", `SELECT count(*) FROM {{table}} WHERE realm = $1`,
		`DELETE FROM {{table}} WHERE realm = $1 AND (entity, id) IN (SELECT entity, id FROM {{table}} WHERE realm = $1 ORDER BY entity, id LIMIT $2)`,
	},
	{
		"change", `SELECT count(*) FROM {{log}} WHERE realm = $1`,
		// In one pass: it has no index on the realm, and no writer waits for these rows.
		`DELETE FROM {{log}} WHERE realm = $1 AND $2 > 0`,
	},
	{
		"gap", `SELECT count(*) FROM {{gap}} WHERE realm = $1`,
		`DELETE FROM {{gap}} WHERE realm = $1 AND (entity, id, version) IN (SELECT entity, id, version FROM {{gap}} WHERE realm = $1 LIMIT $2)`,
	},
	{
		"audit", `SELECT count(*) FROM {{audit}} WHERE realm = $1`,
		`DELETE FROM {{audit}} WHERE realm = $1 AND (run, entity) IN (SELECT run, entity FROM {{audit}} WHERE realm = $1 LIMIT $2)`,
	},
	{
		"company", `SELECT count(*) FROM {{company}} WHERE realm = $1`,
		`DELETE FROM {{company}} WHERE realm = $1 AND $2 > 0`,
	},
}

// EraseRealm deletes the rows of a realm from all tables and returns how many, by table;
// with dryRun it only counts. The numbers of the change log have gaps afterwards, as after
// a transaction that was rolled back.
func (s *Sink) EraseRealm(ctx context.Context, realm string, dryRun bool) (map[string]int64, error) {
	if err := s.ready(ctx); err != nil {
		return nil, fmt.Errorf("erase realm %s from %s: %w", realm, s.qualified(), err)
	}
	found := map[string]int64{}
	for _, e := range erasures {
		n, err := s.erase(ctx, e.count, e.remove, realm, dryRun)
		found[e.table] = n
		if err != nil {
			return found, fmt.Errorf("erase realm %s from the table of %s: %w", realm, e.table, s.classify(err))
		}
	}
	return found, nil
}

func (s *Sink) erase(ctx context.Context, count, remove, realm string, dryRun bool) (n int64, err error) {
	if dryRun {
		ctx, cancel := context.WithTimeout(ctx, eraseTimeout)
		defer cancel()
		err = s.pool.QueryRow(ctx, s.names().Replace(count), realm).Scan(&n)
		return n, err
	}
	for {
		deleted, err := s.eraseOnce(ctx, remove, realm)
		n += deleted
		if err != nil || deleted < eraseBatch {
			return n, err
		}
	}
}

func (s *Sink) eraseOnce(ctx context.Context, remove, realm string) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, eraseTimeout)
	defer cancel()
	tag, err := s.exec(ctx, s.names().Replace(remove), realm, eraseBatch)
	return tag.RowsAffected(), err
}

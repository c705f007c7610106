package postgres

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/jackc/pgx/v5"

	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

// One realm after the other, each found by the primary key. A single statement over all
// leaves the order to the planner, sorts millions of rows for it, and holds up vacuum
// until the last one is with Redis.
const (
	realmAfter = `SELECT realm FROM {{table}} WHERE realm > $1 ORDER BY realm LIMIT 1`
	heldOf     = `SELECT entity, id, version, coalesce(content_hash, '') FROM {{table}} WHERE realm = $1 AND entity = ANY ($2)`
)

// Held are the versions that the table has of the entities, tombstones included, realm by
// realm.
func (s *Sink) Held(ctx context.Context, entities []string) iter.Seq2[sink.Version, error] {
	return func(yield func(sink.Version, error) bool) {
		fail := func(err error) { yield(sink.Version{}, fmt.Errorf("read %s: %w", s.qualified(), err)) }
		if err := s.ready(ctx); err != nil {
			fail(err)
			return
		}
		names := s.names()
		after, of := names.Replace(realmAfter), names.Replace(heldOf)
		for realm := ""; ; {
			err := s.pool.QueryRow(ctx, after, realm).Scan(&realm)
			if errors.Is(err, pgx.ErrNoRows) {
				return
			}
			if err != nil {
				fail(err)
				return
			}
			rows, err := s.pool.Query(ctx, of, realm, entities)
			if err != nil {
				fail(err)
				return
			}
			v := sink.Version{Ref: sink.Ref{Realm: realm}}
			_, err = pgx.ForEachRow(rows, []any{&v.Entity, &v.ID, &v.Version, &v.ContentHash}, func() error {
				if !yield(v, nil) {
					return errEnough
				}
				return nil
			})
			if errors.Is(err, errEnough) {
				return
			}
			if err != nil {
				fail(err)
				return
			}
		}
	}
}

var errEnough = errors.New("enough")

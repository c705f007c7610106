package postgres

import (
	"context"
	"fmt"
	"iter"

	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

// heldByRealm goes from realm to realm by the primary key, so that entities of which there
// are few are found without reading those of which there are many.
const heldByRealm = `
WITH RECURSIVE realms AS (
    (SELECT realm FROM {{table}} ORDER BY realm LIMIT 1)
    UNION ALL
    SELECT (SELECT realm FROM {{table}} WHERE realm > realms.realm ORDER BY realm LIMIT 1) FROM realms WHERE realms.realm IS NOT NULL
)
SELECT held.realm, held.entity, held.id, held.version
FROM realms CROSS JOIN LATERAL (
    SELECT realm, entity, id, version FROM {{table}} WHERE realm = realms.realm AND entity = ANY ($1)
) AS held`

// Held are the versions that the table has of the entities, tombstones included, realm by
// realm.
func (s *Sink) Held(ctx context.Context, entities []string) iter.Seq2[sink.Version, error] {
	return func(yield func(sink.Version, error) bool) {
		fail := func(err error) { yield(sink.Version{}, fmt.Errorf("read %s: %w", s.qualified(), err)) }
		if err := s.ready(ctx); err != nil {
			fail(err)
			return
		}
		rows, err := s.pool.Query(ctx, s.names().Replace(heldByRealm), entities)
		if err != nil {
			fail(err)
			return
		}
		defer rows.Close()
		for rows.Next() {
			var v sink.Version
			if err := rows.Scan(&v.Realm, &v.Entity, &v.ID, &v.Version); err != nil {
				fail(err)
				return
			}
			if !yield(v, nil) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			fail(err)
		}
	}
}

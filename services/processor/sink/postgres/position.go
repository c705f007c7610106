package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

// Position is where the database is: a number that grows with each call, of a row that
// goes back with the tables if they are restored. A failover shows by the start of the
// server: a standby that lacks the last writes may have the row all the same.
func (s *Sink) Position(ctx context.Context) (sink.Position, error) {
	if err := s.ready(ctx); err != nil {
		return sink.Position{}, fmt.Errorf("advance the position in %s: %w", s.position(), err)
	}
	const move = `UPDATE {{position}} SET n = n + 1 RETURNING id, n, extract(epoch FROM pg_postmaster_start_time())::text`
	var p sink.Position
	if err := s.pool.QueryRow(ctx, s.names().Replace(move)).Scan(&p.ID, &p.N, &p.Server); err != nil {
		if restored(err) {
			s.migrated.Store(false)
		}
		return sink.Position{}, fmt.Errorf("advance the position in %s: %w", s.position(), err)
	}
	return p, nil
}

// restored reports whether the row is not there: a backup may be older than the table.
func restored(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == undefinedTable || errors.Is(err, pgx.ErrNoRows)
}

const (
	undefinedTable  = "42P01"
	undefinedColumn = "42703"
	undefinedSchema = "3F000"
)

func (s *Sink) position() string { return s.in(s.beside("position")) }

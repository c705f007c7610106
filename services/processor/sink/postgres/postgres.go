// Package postgres is a sink that keeps the newest change of each entity in a
// PostgreSQL table.
//
// # What it guarantees
//
// One row for each (realm, entity, id), whose version only ever grows: the
// upsert compares versions in the database, so that repeated, late and
// concurrent writes, from any number of processes, end in the same table. A
// Write is one transaction. A deleted entity keeps its row, marked as deleted.
//
// The schema and the table are made and migrated at start, by one process at a
// time. A database that cannot be reached then is no error: it is migrated
// before the first write instead.
//
// # What it does not do
//
// It keeps no history. It refuses for good what jsonb cannot hold, such as a
// document with \u0000 in it: see stream.Permanent.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// Options say where to write.
type Options struct {
	// Name is the sink's name in the marks; "postgres" if empty.
	Name string
	// URL is a connection string as libpq and pgx take it; pool_max_conns in it
	// bounds the connections.
	URL secret.String
	// Schema and Table are where the rows go; "ledgerfeed" and "entity" if empty.
	// Lower-case letters, digits and underscores.
	Schema, Table string
}

const (
	connectTimeout = 5 * time.Second
	migrateTimeout = 2 * time.Minute
)

// Two kinds of names end in SQL that cannot be given as arguments; goose quotes
// none of them.
var plainName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,47}$`)

// Sink writes to one table. It is safe for concurrent use.
type Sink struct {
	name, schema, table string
	pool                *pgxpool.Pool

	migrated  atomic.Bool
	migrating chan struct{} // holds one: who migrates
}

// Open connects and brings the table up to date. It fails for what waiting does
// not mend, such as a wrong password, and not for a server that is away. Close it.
func Open(ctx context.Context, o Options) (*Sink, error) {
	s := &Sink{
		name:      orDefault(o.Name, "postgres"),
		schema:    orDefault(o.Schema, "ledgerfeed"),
		table:     orDefault(o.Table, "entity"),
		migrating: make(chan struct{}, 1),
	}
	for what, name := range map[string]string{"schema": s.schema, "table": s.table} {
		if !plainName.MatchString(name) {
			return nil, fmt.Errorf("postgres sink: %s %q: want up to 48 lower-case letters, digits and underscores", what, name)
		}
	}
	config, err := pgxpool.ParseConfig(o.URL.Reveal())
	if err != nil {
		return nil, fmt.Errorf("postgres sink: %w", err) // pgx leaves the password out
	}
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = connectTimeout
	}
	if _, ok := config.ConnConfig.RuntimeParams["application_name"]; !ok {
		config.ConnConfig.RuntimeParams["application_name"] = "ledgerfeed"
	}
	if s.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, fmt.Errorf("postgres sink: %w", err)
	}
	if err := s.ready(ctx); err != nil && !away(err) {
		s.pool.Close()
		return nil, fmt.Errorf("postgres sink: %w", err)
	}
	return s, nil
}

func orDefault(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// ready migrates once, before the first write.
func (s *Sink) ready(ctx context.Context) error {
	if s.migrated.Load() {
		return nil
	}
	select {
	case s.migrating <- struct{}{}:
		defer func() { <-s.migrating }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.migrated.Load() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, migrateTimeout)
	defer cancel()
	if err := s.migrate(ctx); err != nil {
		return err
	}
	s.migrated.Store(true)
	return nil
}

// away reports whether the server did not answer, or not yet: anything it says
// about us, our password, our rights or our SQL is another matter.
func away(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return true
	}
	switch pg.Code[:2] {
	case "08", "53", "57": // connection, resources, shutting down or starting up
		return true
	}
	return false
}

// Name is the sink's name in the marks.
func (s *Sink) Name() string { return s.name }

func (s *Sink) qualified() string { return pgx.Identifier{s.schema, s.table}.Sanitize() }

// Close closes the connections, waiting for writes under way.
func (s *Sink) Close() error {
	s.pool.Close()
	return nil
}

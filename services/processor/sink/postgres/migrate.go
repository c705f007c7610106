package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// migrations are applied in the order of their numbers, each once. One that was
// released is never edited. For the names in braces see Sink.names.
//
//go:embed migrations/*.sql
var migrations embed.FS

// noTimeout is for what takes as long as a table is large. Its context has a deadline.
const noTimeout = "SET LOCAL statement_timeout = 0"

// migrate brings the schema and the tables up to date. Several processes may do
// it at once: the first holds a row of a table, the others wait for it. A lock of the
// session would not do: behind a pooler two statements have two sessions.
func (s *Sink) migrate(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, migrateTimeout)
	defer cancel()
	if err := s.createSchema(ctx); err != nil {
		return fmt.Errorf("create schema %s: %w", s.schema, err)
	}
	db := stdlib.OpenDBFromPool(s.pool) // closing it leaves the pool open
	if err := errors.Join(s.apply(ctx, db), db.Close()); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

func (s *Sink) apply(ctx context.Context, db *sql.DB) error {
	provider, err := s.provider(db)
	if err != nil {
		return err
	}
	_, err = provider.Up(ctx)
	return err
}

// createSchema asks first: CREATE SCHEMA IF NOT EXISTS needs the right to create
// one even if it exists, and fails when two do it at once.
func (s *Sink) createSchema(ctx context.Context) error {
	const exists = `SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)`
	var there bool
	if err := s.pool.QueryRow(ctx, exists, s.schema).Scan(&there); err != nil || there {
		return err
	}
	_, err := s.pool.Exec(ctx, "CREATE SCHEMA "+pgx.Identifier{s.schema}.Sanitize())
	if err == nil {
		return nil
	}
	if again := s.pool.QueryRow(ctx, exists, s.schema).Scan(&there); again == nil && there {
		return nil
	}
	return err
}

func (s *Sink) lockName() string { return s.table + "_migration_lock" }

func (s *Sink) provider(db *sql.DB) (*goose.Provider, error) {
	// Waits a minute for another process that migrates, looking every second. One that
	// was killed keeps the others waiting for half of that.
	locker, err := lock.NewPostgresTableLocker(
		lock.WithTableName(s.schema+"."+s.lockName()),
		lock.WithTableLeaseDuration(30*time.Second), lock.WithTableHeartbeatInterval(5*time.Second),
		lock.WithTableLockTimeout(time.Second, 60),
	)
	if err != nil {
		return nil, err
	}
	steps, err := s.migrations()
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectPostgres, db, nil,
		goose.WithGoMigrations(steps...),
		goose.WithDisableGlobalRegistry(true),
		goose.WithLocker(locker),
		goose.WithTableName(s.schema+"."+s.table+"_migrations"),
	)
}

// migrations are the embedded files with the names in their places. They are no
// goose SQL files because those cannot take a name.
func (s *Sink) migrations() ([]*goose.Migration, error) {
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	names := s.names()
	steps := make([]*goose.Migration, 0, len(files))
	for _, file := range files {
		text, err := fs.ReadFile(migrations, file)
		if err != nil {
			return nil, err
		}
		version, err := goose.NumericComponent(file)
		if err != nil {
			return nil, err
		}
		statements := names.Replace(string(text))
		up := func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, noTimeout+";"+statements)
			return err
		}
		steps = append(steps, goose.NewGoMigration(version, &goose.GoFunc{RunTx: up}, nil))
	}
	return steps, nil
}

// names puts the names of this sink's tables, schema included, in the place of
// those in braces.
func (s *Sink) names() *strings.Replacer {
	return strings.NewReplacer(
		"{{table}}", s.qualified(),
		"{{later}}", later,
		"{{other}}", s.in(s.table+"_other"),
		"{{other name}}", s.table+"_other",
		"{{index}}", s.in(s.table+"_pkey"),
		"{{other index name}}", s.table+"_other_pkey",
		"{{log}}", s.log(),
		"{{gap}}", s.gap(),
		"{{audit}}", s.audit(),
		"{{position}}", s.position(),
		"{{schema}}", pgx.Identifier{s.schema}.Sanitize(),
		"{{migrations}}", s.in(s.table+"_migrations"),
		"{{company}}", s.company(),
		"{{sequence}}", s.in(s.logName()+"_seq_seq"),
		"{{begin}}", s.in(s.logName()+"_begin"),
		"{{settled}}", s.in(s.logName()+"_settled"),
		"{{after}}", s.in(s.logName()+"_after"),
	)
}

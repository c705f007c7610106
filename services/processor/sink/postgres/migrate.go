package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// migrations are applied in the order of their numbers, each once. One that was
// released is never edited. {{table}} stands for the table, schema included.
//
//go:embed migrations/*.sql
var migrations embed.FS

// migrate brings the schema and the table up to date. Several processes may do
// it at once: the first holds an advisory lock, the others wait for it.
func (s *Sink) migrate(ctx context.Context) error {
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

func (s *Sink) provider(db *sql.DB) (*goose.Provider, error) {
	// Waits a minute for another process that migrates, looking every second.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 60))
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
		goose.WithSessionLocker(locker),
		goose.WithTableName(s.schema+"."+s.table+"_migrations"),
	)
}

// migrations are the embedded files with the table's name in its place. They are
// no goose SQL files because those cannot take a name.
func (s *Sink) migrations() ([]*goose.Migration, error) {
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
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
		statements := strings.ReplaceAll(string(text), "{{table}}", s.qualified())
		up := func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, statements)
			return err
		}
		steps = append(steps, goose.NewGoMigration(version, &goose.GoFunc{RunTx: up}, nil))
	}
	return steps, nil
}

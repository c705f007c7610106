package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// errRolledBack ends the transaction of a probe.
var errRolledBack = errors.New("rolled back")

// Probe connects and stores a change as Write would, and takes it back: nothing is made or
// changed. Where the tables are not there yet it asks whether they may be made.
func Probe(ctx context.Context, o Options) error {
	s, err := newSink(o)
	if err != nil {
		return err
	}
	config, err := parse(o.URL)
	if err != nil {
		return fmt.Errorf("postgres sink: %w", err)
	}
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec // for one statement, and for poolers
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err != nil {
		return err
	}
	registerDocuments(conn)
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if err := check(ctx, conn); err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if err := s.probe(ctx, tx); err != nil {
			return s.classify(err)
		}
		return errRolledBack
	})
	if errors.Is(err, errRolledBack) {
		return nil
	}
	return err
}

func (s *Sink) probe(ctx context.Context, tx pgx.Tx) error {
	const there = `SELECT to_regclass($1) IS NOT NULL, EXISTS (SELECT FROM pg_namespace WHERE nspname = $2)`
	var table, schema bool
	if err := tx.QueryRow(ctx, there, s.qualified(), s.schema).Scan(&table, &schema); err != nil {
		return err
	}
	switch {
	case table:
		if old, err := s.unmigrated(ctx, tx); err != nil || old {
			return err // the next start migrates them
		}
		args, _ := columns([]*ledgerfeedv1.Change{{
			RealmId: "probe", Entity: "Probe", EntityId: "1", Version: 1, Operation: ledgerfeedv1.Operation_OPERATION_UPDATE,
			LastUpdated: timestamppb.Now(), LearnedAt: timestamppb.Now(), Document: []byte(`{}`),
		}})
		_, err := tx.Exec(ctx, s.statement, args...)
		return err
	case schema:
		_, err := tx.Exec(ctx, "CREATE TABLE "+s.in(s.table+"_probe")+" ()")
		return err
	}
	_, err := tx.Exec(ctx, "CREATE SCHEMA "+pgx.Identifier{s.schema}.Sanitize())
	return err
}

// unmigrated reports whether the tables are those of an earlier version.
func (s *Sink) unmigrated(ctx context.Context, tx interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}) (bool, error) {
	steps, err := s.migrations()
	if err != nil {
		return false, err
	}
	var applied int
	err = tx.QueryRow(ctx, "SELECT count(DISTINCT version_id) FROM "+s.in(s.table+"_migrations")+" WHERE version_id > 0").Scan(&applied)
	return applied < len(steps), err
}

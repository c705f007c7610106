// Package postgres is a sink that keeps the newest change of each entity in a
// PostgreSQL table, and every one in a change log beside it, with the ledger of gaps
// and the verdicts of audits.
//
// # What it guarantees
//
// One row for each (realm, entity, id), whose version only ever grows: the
// upsert compares versions in the database, so that repeated, late and
// concurrent writes, from any number of processes, end in the same table. A
// Write is one transaction and one round trip. A deleted entity keeps its row,
// marked as deleted.
//
// The change log has a row for each version the table took, once, and once more
// for each replay of it; the rows of an entity have the order of its versions. It
// is read by a number that only grows, see migrations/00002_change_log.sql: rows
// that are committed out of order are held back until none is missing before them.
//
// The schema and the tables are made and migrated at start, by one process at a
// time. A database that cannot be reached then is no error: it is migrated
// before the first write instead.
//
// # What it does not do
//
// The log has no version that was overtaken before it was written. Characters that jsonb
// cannot hold, such as \u0000, are replaced by U+FFFD, and the row says so (sanitized).
// Write refuses for good what is no JSON, or has a number that is out of range: see
// stream.Permanent.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// Options say where to write.
type Options struct {
	// Name is the sink's name in the marks; "postgres" if empty.
	Name string
	// URL is a connection string as libpq and pgx take it; pool_max_conns in it
	// bounds the connections.
	URL secret.String
	// Schema and Table are where the rows go; "ledgerfeed" and "entity" if empty.
	// Lower-case letters, digits and underscores. The change log, gaps and audits are
	// beside it: "change", "gap" and "audit", or with the table's name and an
	// underscore before them if it is another one.
	Schema, Table string
	// PerEntity keeps each entity type in a table of its own, all of them
	// partitions of Table. Rows that are there already move at the next Open; a
	// table that was split stays so.
	PerEntity bool
	// Verify has Open make nothing: see [SetUp]. What is missing is stream.ErrNotSetUp. An
	// entity type without a table of its own stays in the other one.
	Verify bool
	// NoLog writes no change log.
	NoLog bool
	// KeepLog is how long a row of the log stays, KeepGaps one of the gaps; 0 is for
	// ever.
	KeepLog, KeepGaps time.Duration
	// Logger hears of what fails beside the writes; nil is none.
	Logger *zap.Logger
}

const (
	defaultTable = "entity"

	connectTimeout = 5 * time.Second
	migrateTimeout = 2 * time.Minute
)

// Two kinds of names end in SQL that cannot be given as arguments; goose quotes
// none of them.
var plainName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,47}$`)

// Sink writes to one table and its log. It is safe for concurrent use.
type Sink struct {
	name, schema, table string
	perEntity, verify   bool
	statement           string // of Write
	connector           *connector
	pool                *pgxpool.Pool
	events              *zap.Logger
	sanitized           atomic.Int64
	isolated            atomic.Bool // transactions of the default isolation were broken off

	migrated  atomic.Bool
	unready   atomic.Pointer[error] // of the last migration, which was not done
	migrating chan struct{}         // holds one: who migrates

	tables sync.Map // entity types whose table is known to be there

	stop     context.CancelFunc // ends trimming
	trimming sync.WaitGroup
}

// newSink is one that is not connected.
func newSink(o Options) (*Sink, error) {
	s := &Sink{
		name:      orDefault(o.Name, "postgres"),
		schema:    orDefault(o.Schema, "ledgerfeed"),
		table:     orDefault(o.Table, defaultTable),
		perEntity: o.PerEntity, verify: o.Verify,
		migrating: make(chan struct{}, 1),
	}
	for what, name := range map[string]string{"schema": s.schema, "table": s.table} {
		if !plainName.MatchString(name) {
			return nil, fmt.Errorf("postgres sink: %s %q: want up to 48 lower-case letters, digits and underscores", what, name)
		}
	}
	s.statement = s.names().Replace(upsert)
	if !o.NoLog {
		s.statement = s.names().Replace(logged)
	}
	if sabotage.On(sabotage.NoVersionGuard) {
		s.statement = strings.Replace(s.statement, "held.version < excluded.version", "true", 1)
	}
	if s.events = o.Logger; s.events == nil {
		s.events = zap.NewNop()
	}
	return s, nil
}

// Open connects and brings the tables up to date. It fails for what waiting does
// not mend, such as a wrong password, and not for a server that is away. Close it.
func Open(ctx context.Context, o Options) (*Sink, error) {
	s, err := newSink(o)
	if err != nil {
		return nil, err
	}
	config, err := parse(o.URL)
	if err != nil {
		return nil, fmt.Errorf("postgres sink: %w", err)
	}
	s.connector = &connector{log: s.events.With(telemetry.Sink(s.name))}
	s.SetURL(o.URL)
	if s.pool, err = s.connector.newPool(ctx, config); err != nil {
		return nil, fmt.Errorf("postgres sink: %w", err)
	}
	if err := s.ready(ctx); err != nil && (!away(err) || errors.Is(err, stream.ErrNotSetUp)) {
		s.pool.Close()
		return nil, fmt.Errorf("postgres sink: %w", err)
	}
	ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	for statement, keep := range map[string]time.Duration{trimOldest: o.KeepLog, trimGaps: o.KeepGaps} {
		if keep > 0 {
			s.trimming.Go(func() { s.trimUntil(ctx, statement, keep, s.events.With(telemetry.Sink(s.name))) })
		}
	}
	return s, nil
}

func orDefault(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// ready migrates once, before the first write. A large table may be split for
// longer than a migration takes.
func (s *Sink) ready(ctx context.Context) (err error) {
	if s.migrated.Load() {
		return nil
	}
	defer func() { s.unready.Store(&err) }()
	select {
	case s.migrating <- struct{}{}:
		defer func() { <-s.migrating }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.migrated.Load() {
		return nil
	}
	look := s.migrate
	if s.verify {
		look = s.verifyTables
	}
	err = look(ctx)
	if errors.Is(err, errPooled) {
		err = look(ctx) // by connections that a pooler can share
	}
	if err != nil {
		return err
	}
	if s.perEntity && !s.verify {
		if err := s.split(ctx); err != nil {
			return fmt.Errorf("split %s: %w", s.qualified(), err)
		}
	}
	s.migrated.Store(true)
	return nil
}

// Waiting is why the tables have not been looked at since the start: the server was away, or
// still is. nil once they have been.
func (s *Sink) Waiting() error {
	if s.migrated.Load() {
		return nil
	}
	if err := s.unready.Load(); err != nil {
		return *err
	}
	return nil
}

// away reports whether the server did not answer, or not yet: anything it says
// about us, our password, our rights or our SQL is another matter.
func away(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return !errors.Is(err, errEncoding)
	}
	switch pg.Code[:2] {
	case "08", "40", "53", "57": // connection, another transaction, resources, shutting down or starting up
		return true
	}
	return false
}

// SetURL makes new connections log in as the user of url and with its password. Only these
// may differ from Options.URL, see [SamePlace].
func (s *Sink) SetURL(url secret.String) { s.connector.url.Store(&url) }

// Name is the sink's name in the marks.
func (s *Sink) Name() string { return s.name }

func (s *Sink) in(name string) string { return pgx.Identifier{s.schema, name}.Sanitize() }
func (s *Sink) qualified() string     { return s.in(s.table) }
func (s *Sink) log() string           { return s.in(s.logName()) }
func (s *Sink) gap() string           { return s.in(s.beside("gap")) }
func (s *Sink) audit() string         { return s.in(s.beside("audit")) }
func (s *Sink) logName() string       { return s.beside("change") }

// beside is the name of another table of this sink.
func (s *Sink) beside(name string) string {
	if s.table == defaultTable {
		return name
	}
	return s.table + "_" + name
}

// Close closes the connections, waiting for writes under way.
func (s *Sink) Close() error {
	s.stop()
	s.trimming.Wait()
	s.pool.Close()
	return nil
}

package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// upsert takes a batch as one array a column. The guard on the version makes
// order and repetition harmless, across processes too: what is held only ever
// gets newer. The guard is sink.Record.Supersedes in SQL.
const upsert = `
INSERT INTO {{table}} AS held (realm, entity, id, version, sync_token, last_updated, deleted, operation,
                           document, learned, learned_at, merged_into, event_id, content_hash, read_at, sanitized)
SELECT realm, entity, id, version, sync_token, last_updated, deleted, operation,
       document::jsonb, learned, learned_at, merged_into, event_id, content_hash, read_at, sanitized
FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::timestamptz[], $7::boolean[], $8::text[],
            $9::text[], $10::timestamptz[], $11::text[], $12::text[], $13::text[], $14::timestamptz[], $15::boolean[], $16::text[])
  AS batch (realm, entity, id, version, sync_token, last_updated, deleted, operation,
            learned, learned_at, merged_into, event_id, content_hash, read_at, sanitized, document)
ON CONFLICT (realm, entity, id) DO UPDATE SET
    version = excluded.version, sync_token = excluded.sync_token, last_updated = excluded.last_updated,
    deleted = excluded.deleted, operation = excluded.operation, document = excluded.document,
    learned = excluded.learned, learned_at = excluded.learned_at, merged_into = excluded.merged_into,
    event_id = excluded.event_id, content_hash = excluded.content_hash, read_at = excluded.read_at,
    sanitized = excluded.sanitized, written_at = now()
WHERE held.version < excluded.version
   OR held.version = excluded.version AND (excluded.learned = 'replay'
      OR held.content_hash IS DISTINCT FROM excluded.content_hash AND excluded.content_hash IS NOT NULL AND {{later}})
   OR held.deleted AND excluded.learned = 'restored' AND {{later}}`

// later says that a change does not rest on an earlier read than what is held.
const later = `(held.read_at IS NULL OR excluded.read_at IS NULL OR excluded.read_at >= held.read_at)`

// logged is upsert and, in the same statement, the log of what it took: the guard
// says that, so that no index has to keep versions apart. A row gets its number
// while its entity is locked, so the numbers of an entity have the order of its
// versions. The join keeps begin before the first number.
const logged = `
WITH writing AS MATERIALIZED (SELECT {{begin}}()), taken AS (` + upsert + `
    RETURNING held.*)
INSERT INTO {{log}} (key, realm, entity, id, version, sync_token, last_updated, deleted, operation,
                     document, learned, learned_at, merged_into, event_id, sanitized)
SELECT concat_ws('/', realm, entity, id, version, content_hash, CASE WHEN learned = 'restored' THEN 'restored/' || event_id END), realm, entity, id, version, sync_token, last_updated, deleted, operation,
       document, learned, learned_at, merged_into, event_id, sanitized
FROM taken CROSS JOIN writing`

// Write stores changes in one transaction: all or none. A change that is not
// newer than the row held changes nothing and is not logged; a replay, or another
// document, of the same version is.
func (s *Sink) Write(ctx context.Context, changes []*ledgerfeedv1.Change) error {
	if len(changes) == 0 {
		return nil
	}
	if err := s.ready(ctx); err != nil {
		return fmt.Errorf("write to %s: %w", s.qualified(), named(err))
	}
	if s.perEntity && !s.verify {
		if err := s.makeTables(ctx, changes); err != nil {
			return fmt.Errorf("write to %s: %w", s.qualified(), s.classify(err))
		}
	}
	err := s.store(ctx, changes)
	if s.behind(err) {
		if err = s.advanceSequence(ctx); err == nil {
			err = s.store(ctx, changes)
		}
	}
	if err != nil {
		s.forgetTables(err)
		return fmt.Errorf("write to %s: %w", s.qualified(), s.classify(err))
	}
	return nil
}

// forgetTables has the next write migrate where the database has lost tables or columns,
// such as by a restore from before an upgrade.
func (s *Sink) forgetTables(err error) {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && slices.Contains([]string{undefinedTable, undefinedColumn, undefinedSchema}, pg.Code) {
		s.tables.Clear()
		s.migrated.Store(false)
	}
}

func (s *Sink) store(ctx context.Context, changes []*ledgerfeedv1.Change) (err error) {
	args, sanitized := columns(changes)
	for range 1 + len(changes) { // of each a table may have been made meanwhile
		if _, err = s.exec(ctx, s.statement, args...); !rerouted(err) {
			break
		}
	}
	if err == nil {
		s.sanitized.Add(int64(sanitized))
	}
	return err
}

// exec runs one statement in a transaction of its own. Above READ COMMITTED, which a role or
// a database may have by default, PostgreSQL breaks off one of two that write at the same
// time: the guard on the version makes the lower level right, and it breaks off none.
func (s *Sink) exec(ctx context.Context, sql string, args ...any) (tag pgconn.CommandTag, err error) {
	if !s.isolated.Load() {
		tag, err = s.pool.Exec(ctx, sql, args...)
		if !brokenOff(err) {
			return tag, err
		}
		if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == serializationFailure {
			s.isolated.Store(true)
		}
	}
	for range brokenOffTries {
		err = pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) (err error) {
			tag, err = tx.Exec(ctx, sql, args...)
			return err
		})
		if !brokenOff(err) {
			break
		}
	}
	return tag, err
}

const serializationFailure = "40001"

// brokenOffTries is for deadlocks, which a trigger of somebody's may cause.
const brokenOffTries = 3

// brokenOff reports whether PostgreSQL ended a transaction for the sake of another one, so
// that the next try may succeed at once.
func brokenOff(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && strings.HasPrefix(pg.Code, "40")
}

// Sanitized is how many documents were stored with characters replaced that jsonb cannot
// hold, since Open.
func (s *Sink) Sanitized() int64 { return s.sanitized.Load() }

// behind reports whether the number that the log gave out is taken: sequences are not
// part of logical replication, nor of every restore.
func (s *Sink) behind(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == uniqueViolation && pg.ConstraintName == s.logName()+"_pkey"
}

const uniqueViolation = "23505"

// advanceSequence moves the numbers of the log behind those that it holds.
func (s *Sink) advanceSequence(ctx context.Context) error {
	const advance = `SELECT setval('{{sequence}}', (SELECT max(seq) FROM {{log}})) FROM {{sequence}} WHERE last_value <= (SELECT max(seq) FROM {{log}})`
	tag, err := s.pool.Exec(ctx, s.names().Replace(advance))
	if err == nil && tag.RowsAffected() > 0 {
		s.events.Warn("change log sequence was behind its table; advanced", telemetry.Sink(s.name))
	}
	return err
}

// rerouted reports whether a row was on its way to the table of all other entities
// while its entity got one of its own: the next try finds that. PostgreSQL names no
// constraint then, as it does for one that somebody added.
func rerouted(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == "23514" && pg.ConstraintName == ""
}

// columns are the arguments of upsert, and how many documents were sanitized. Rows are locked in the order of the
// arrays: sorted, two batches cannot wait for each other. The documents are last: what is
// appended to them would copy them again.
func columns(changes []*ledgerfeedv1.Change) (args []any, replaced int) {
	sorted := slices.SortedFunc(slices.Values(changes), func(a, b *ledgerfeedv1.Change) int {
		return cmp.Or(cmp.Compare(a.GetRealmId(), b.GetRealmId()), cmp.Compare(a.GetEntity(), b.GetEntity()),
			cmp.Compare(a.GetEntityId(), b.GetEntityId()))
	})
	n := len(sorted)
	var (
		realms, entities, ids, tokens = make([]string, n), make([]string, n), make([]string, n), make([]string, n)
		operations, learned           = make([]string, n), make([]string, n)
		mergedInto, eventIDs          = make([]string, n), make([]string, n)
		versions                      = make([]int64, n)
		updated, learnedAt            = make([]time.Time, n), make([]time.Time, n)
		contents, reads               = make([]string, n), make([]time.Time, n)
		hashes, readAt                = make([]*string, n), make([]*time.Time, n)
		deleted                       = make([]bool, n)
		texts                         = make(documents, n)
		sanitizeds                    = make([]bool, n)
	)
	for i, c := range sorted {
		r := sink.RecordOf(c)
		realms[i], entities[i], ids[i], tokens[i] = r.Realm, r.Entity, r.ID, r.SyncToken
		versions[i], updated[i], deleted[i] = r.Version, r.LastUpdated, r.Deleted
		operations[i], learned[i], learnedAt[i] = r.Operation, r.Learned, r.LearnedAt
		mergedInto[i], eventIDs[i] = r.MergedInto, r.EventID
		contents[i], reads[i] = r.ContentHash, r.ReadAt
		if len(r.Document) > 0 {
			texts[i], sanitizeds[i] = sanitized(r.Document)
			if sanitizeds[i] {
				replaced++
			}
		}
		if r.ContentHash != "" {
			hashes[i] = &contents[i]
		}
		if !r.ReadAt.IsZero() {
			readAt[i] = &reads[i]
		}
	}
	return []any{realms, entities, ids, versions, tokens, updated, deleted, operations, learned, learnedAt, mergedInto, eventIDs, hashes, readAt, sanitizeds, texts}, replaced
}

// named gives an error of the server its name for metrics.
func named(err error) error {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return sink.Because("SQLSTATE "+pg.Code, err)
	}
	return err
}

// classify tells what will never be stored from what may be later. The server's
// detail is left out: it can quote the document.
func (s *Sink) classify(err error) error {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return err
	}
	said := sink.Because("SQLSTATE "+pg.Code, fmt.Errorf("PostgreSQL: %s (SQLSTATE %s)", pg.Message, pg.Code))
	if s.refused(pg) && !rerouted(err) {
		return stream.Permanent(stream.ReasonSinkRefused, said)
	}
	return said
}

// refused reports whether an error is about the values of a row, so that the row will not
// be stored at the next try either.
func (s *Sink) refused(pg *pgconn.PgError) bool {
	switch {
	case strings.Contains(pg.Where, "PL/pgSQL function") || strings.Contains(pg.Where, "SQL function"):
		return false // of a trigger, which somebody can change
	case pg.Code == uniqueViolation && pg.SchemaName == s.schema && strings.HasSuffix(pg.ConstraintName, "_pkey"):
		return false // of our own keys, which the statement respects
	case pg.Code == "22023", strings.Contains(pg.Message, "NOTIFY queue"):
		return false // a setting, a payload of NOTIFY, or its queue, which empties
	}
	switch pg.Code[:2] {
	case "22", // data exception: no JSON, a number out of range
		"23", // a constraint somebody added
		"54": // over a limit of the server: too large, nested too deeply
		return true
	}
	return false
}

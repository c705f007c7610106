package postgres

import (
	"context"
	"crypto/sha256"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// With a table per entity type the table is partitioned by the type: one
// statement writes to and reads from all of them, and so does everybody who
// knew the one table. What has no table of its own is in the other one, which
// is the one table of before.

// tablesLock is held by who makes tables, until its transaction ends.
const tablesLock = `SELECT pg_advisory_xact_lock(hashtextextended('tables of {{table}}', 0))`

// isSplit also tells a table that was split before.
const isSplit = `SELECT relkind = 'p' FROM pg_class WHERE oid = '{{table}}'::regclass`

// splitTable puts a partitioned table in the place of the one table.
const splitTable = `
LOCK TABLE {{table}} IN ACCESS EXCLUSIVE MODE;
ALTER TABLE {{table}} RENAME TO {{other name}};
ALTER INDEX IF EXISTS {{index}} RENAME TO {{other index name}};
CREATE TABLE {{table}} (LIKE {{other}} INCLUDING ALL) PARTITION BY LIST (entity);
COMMENT ON TABLE {{table}} IS 'Ledgerfeed: the newest version of each QuickBooks entity';
COMMENT ON TABLE {{other}} IS 'Ledgerfeed: entity types that have no table of their own'`

// attachOther comes last: until then no table has to be compared with it.
const attachOther = `ALTER TABLE {{table}} ATTACH PARTITION {{other}} DEFAULT`

// makeTable takes the rows of the type along.
const makeTable = `
CREATE TABLE {{new}} (LIKE {{table}} INCLUDING ALL);
LOCK TABLE {{other}} IN ACCESS EXCLUSIVE MODE;
WITH moved AS (DELETE FROM {{other}} WHERE entity = {{entity}} RETURNING *) INSERT INTO {{new}} SELECT * FROM moved;
ALTER TABLE {{table}} ATTACH PARTITION {{new}} FOR VALUES IN ({{entity}})`

const isTable = `SELECT EXISTS (SELECT FROM pg_inherits WHERE inhparent = '{{table}}'::regclass AND inhrelid = to_regclass($1))`

// split makes the one table a table of tables, with its rows in their places. It
// is all or nothing, and takes as long as copying them.
func (s *Sink) split(ctx context.Context) error {
	return s.alone(ctx, func(tx pgx.Tx) error {
		var done bool
		if err := tx.QueryRow(ctx, s.names().Replace(isSplit)).Scan(&done); err != nil || done {
			return err
		}
		rows, err := tx.Query(ctx, "SELECT DISTINCT entity FROM "+s.qualified())
		if err != nil {
			return err
		}
		entities, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, s.names().Replace(splitTable)); err != nil {
			return err
		}
		for _, entity := range entities {
			if err := s.makeTable(ctx, tx, entity); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, s.names().Replace(attachOther))
		return err
	})
}

// makeTables makes the tables of the entity types that have none yet.
func (s *Sink) makeTables(ctx context.Context, changes []*ledgerfeedv1.Change) error {
	var missing []string
	for _, c := range changes {
		if _, ok := s.tables.Load(c.GetEntity()); !ok && !slices.Contains(missing, c.GetEntity()) {
			missing = append(missing, c.GetEntity())
		}
	}
	return s.makeTablesOf(ctx, missing)
}

func (s *Sink) makeTablesOf(ctx context.Context, entities []string) error {
	for _, entity := range entities {
		if err := s.alone(ctx, func(tx pgx.Tx) error { return s.makeTable(ctx, tx, entity) }); err != nil {
			return err
		}
		s.tables.Store(entity, struct{}{})
	}
	return nil
}

func (s *Sink) makeTable(ctx context.Context, tx pgx.Tx, entity string) error {
	name := s.in(s.tableOf(entity))
	var there bool
	var quoted string
	if err := tx.QueryRow(ctx, s.names().Replace(isTable), name).Scan(&there); err != nil || there {
		return err
	}
	if err := tx.QueryRow(ctx, "SELECT quote_literal($1::text)", entity).Scan(&quoted); err != nil {
		return err
	}
	statements := strings.NewReplacer("{{new}}", name, "{{entity}}", quoted).Replace(s.names().Replace(makeTable))
	_, err := tx.Exec(ctx, statements)
	return err
}

// alone runs f in a transaction while no other process makes tables. What is there is
// looked up after the lock was had, which takes READ COMMITTED.
func (s *Sink) alone(ctx context.Context, f func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		for _, statement := range []string{noTimeout, s.names().Replace(tablesLock)} {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return err
			}
		}
		return f(tx)
	})
}

const maxName = 63 // of PostgreSQL

var (
	apiName    = regexp.MustCompile(`^[A-Z][A-Za-z0-9]*$`)
	capital    = regexp.MustCompile(`[A-Z]`)
	unsafeRune = regexp.MustCompile(`[^a-z0-9_]`)
)

// tableOf is CreditMemo's credit_memo. A name that is not like the API's own, or
// whose table would be one of ours, is made safe and told apart by a hash behind
// two underscores, which no name of the API's kind has.
func (s *Sink) tableOf(entity string) string {
	prefix := ""
	if s.table != defaultTable {
		prefix = s.table + "_"
	}
	if apiName.MatchString(entity) {
		snake := strings.TrimPrefix(strings.ToLower(capital.ReplaceAllString(entity, "_$0")), "_")
		if name := prefix + snake; len(name) <= maxName && !s.ours(name) {
			return name
		}
	}
	hash := fmt.Sprintf("__%x", sha256.Sum256([]byte(entity)))[:10]
	safe := prefix + unsafeRune.ReplaceAllString(strings.ToLower(entity), "_")
	return safe[:min(len(safe), maxName-len(hash))] + hash
}

func (s *Sink) ours(name string) bool {
	return slices.Contains([]string{
		s.table, s.logName(), s.beside("gap"), s.beside("audit"), s.beside("company"), s.table + "_other", s.table + "_migrations", s.lockName(),
	}, name)
}

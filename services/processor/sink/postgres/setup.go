package postgres

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

// rights are what a role needs that only writes. It may delete from the log and from the
// gaps, whose rows have an end, and from nothing else; it owns nothing.
var rights = []struct{ on, name, needs string }{
	{"SCHEMA", "{{schema}}", "USAGE"},
	{"TABLE", "{{table}}", "SELECT, INSERT, UPDATE"},
	{"TABLE", "{{log}}", "SELECT, INSERT, DELETE"},
	{"SEQUENCE", "{{sequence}}", "SELECT, UPDATE"},
	{"TABLE", "{{gap}}", "SELECT, INSERT, UPDATE, DELETE"},
	{"TABLE", "{{audit}}", "SELECT, INSERT, UPDATE"},
	{"TABLE", "{{position}}", "SELECT, UPDATE"},
	{"TABLE", "{{company}}", "SELECT, INSERT, UPDATE"},
	{"TABLE", "{{migrations}}", "SELECT"},
}

// SetUp makes and migrates the tables of a sink as migrator, and gives the user of o.URL,
// whose name it returns, the rights to write. Without a migrator the user of o.URL makes the
// tables and owns them. The password of the migrator is that of PGPASSFILE or PGPASSWORD.
func SetUp(ctx context.Context, o Options, migrator string) (writer string, err error) {
	config, err := parse(o.URL)
	if err != nil {
		return "", fmt.Errorf("postgres sink: %w", err)
	}
	writer = config.ConnConfig.User
	o.Verify, o.KeepLog, o.KeepGaps = false, 0, 0
	if migrator != "" {
		o.URL = withUser(o.URL, migrator)
	}
	s, err := Open(ctx, o)
	if err != nil {
		return writer, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := s.Waiting(); err != nil {
		return writer, fmt.Errorf("postgres sink: %w: %w", stream.ErrUnreachable, err)
	}
	if s.perEntity {
		// A writer makes no tables: what may come has one.
		if err := s.makeTablesOf(ctx, entity.Queryable()); err != nil {
			return writer, fmt.Errorf("postgres sink: %w", s.classify(err))
		}
	}
	if migrator == "" || migrator == writer {
		return writer, nil
	}
	return writer, s.grant(ctx, writer)
}

// withUser is a connection string of another user, without a password.
func withUser(text secret.String, user string) secret.String {
	u, err := url.Parse(text.Reveal())
	if err != nil || u.Host == "" && u.RawQuery == "" {
		quoted := strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(user)
		return text + secret.String(" user='"+quoted+"' password=''") // the last one counts
	}
	query := u.Query()
	query.Del("user")
	query.Del("password")
	u.User, u.RawQuery = url.User(user), query.Encode()
	return secret.String(u.String())
}

const undefinedObject = "42704"

func (s *Sink) grant(ctx context.Context, writer string) error {
	role := pgx.Identifier{writer}.Sanitize()
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		for _, r := range rights {
			statement := fmt.Sprintf("GRANT %s ON %s %s TO %s", r.needs, r.on, s.names().Replace(r.name), role)
			if _, err := tx.Exec(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
	pg, refused := errors.AsType[*pgconn.PgError](err)
	switch {
	case err == nil:
		return nil
	case refused && pg.Code == undefinedObject:
		return fmt.Errorf("role %s does not exist: create it with CREATE ROLE %s LOGIN and a password", writer, role)
	default:
		return fmt.Errorf("grant to role %s: %w", writer, s.classify(err))
	}
}

// verifyTables compares the tables with this version, and the rights of the user with what a
// writer needs. What is missing is stream.ErrNotSetUp.
func (s *Sink) verifyTables(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	const there = `SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2)`
	var made bool
	if err := s.pool.QueryRow(ctx, there, s.schema, s.table+"_migrations").Scan(&made); err != nil {
		return err
	}
	if !made {
		return notSetUp("the tables of schema %s are missing", s.schema)
	}
	if err := s.verifyRights(ctx); err != nil {
		return err
	}
	old, err := s.unmigrated(ctx, s.pool)
	if err != nil {
		return err
	}
	if old {
		return notSetUp("the tables of schema %s are those of an earlier version", s.schema)
	}
	var split bool
	if err := s.pool.QueryRow(ctx, s.names().Replace(isSplit)).Scan(&split); err != nil {
		return err
	}
	if s.perEntity && !split {
		return notSetUp("table %s is not split by entity, as processor.postgres_tables says", s.qualified())
	}
	return nil
}

// verifyRights names what the user may not do.
func (s *Sink) verifyRights(ctx context.Context) error {
	var user string
	var may bool
	const schema = `SELECT current_user, has_schema_privilege(current_user, $1, 'USAGE')`
	if err := s.pool.QueryRow(ctx, schema, s.schema).Scan(&user, &may); err != nil {
		return err
	}
	if !may {
		return notSetUp("role %s may not use schema %s", user, s.schema)
	}
	for _, r := range rights[1:] {
		name := s.names().Replace(r.name)
		for need := range strings.SplitSeq(r.needs, ", ") {
			// NULL: it is of a version that is not there yet.
			err := s.pool.QueryRow(ctx, "SELECT coalesce(has_"+strings.ToLower(r.on)+"_privilege(current_user, to_regclass($1), $2), true)", name, need).Scan(&may)
			if err != nil {
				return err
			}
			if !may {
				return notSetUp("role %s lacks %s on %s", user, need, name)
			}
		}
	}
	return nil
}

func notSetUp(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{stream.ErrNotSetUp}, args...)...)
}

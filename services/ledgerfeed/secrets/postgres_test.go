package secrets_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/secrets/secretstest"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/postgres"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/sinktest"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

func TestMain(m *testing.M) { os.Exit(devtest.Main(m)) }

const (
	migrator = "ledgerfeed_setup"
	writer   = "ledgerfeed"
)

// database is a PostgreSQL with the pg_hba.conf and the roles that are shipped.
type database struct {
	t      *testing.T
	dir    string
	server *devtest.SecuredPostgres
	roles  string // the script
}

func startPostgres(t *testing.T) *database {
	t.Helper()
	d := &database{t: t, dir: given(t)}
	d.server, d.roles = secretstest.Postgres(t, deploy, d.dir)
	return d
}

// url is that of a role, whose password PGPASSFILE has.
func (d *database) url(role string) secret.String {
	return secret.String(fmt.Sprintf("postgres://%s@%s/books?sslmode=verify-full&sslrootcert=%s/ca.crt", role, d.server.Addr(), d.dir))
}

// as has this process find the passwords of a service.
func (d *database) as(service string) {
	d.t.Helper()
	d.t.Setenv("PGPASSFILE", filepath.Join(d.dir, "pgpass_"+service))
}

func (d *database) setUp(o postgres.Options) {
	d.t.Helper()
	d.as("setup")
	o.URL = d.url(writer)
	got, err := postgres.SetUp(d.t.Context(), o, migrator)
	require.NoError(d.t, err)
	require.Equal(d.t, writer, got)
	d.as("writer")
}

func (d *database) writer(o postgres.Options) *postgres.Sink {
	d.t.Helper()
	o.URL, o.Verify = d.url(writer), true
	s, err := postgres.Open(d.t.Context(), o)
	require.NoError(d.t, err)
	d.t.Cleanup(func() { _ = s.Close() })
	return s
}

func (d *database) connect(url secret.String) *pgx.Conn {
	d.t.Helper()
	conn, err := pgx.Connect(d.t.Context(), url.Reveal())
	require.NoError(d.t, err)
	d.t.Cleanup(func() { _ = conn.Close(d.t.Context()) })
	return conn
}

// Who has no password, a wrong one or no TLS, is turned away, and a client trusts no other
// authority.
func TestPostgres_RefusesStrangers(t *testing.T) {
	d := startPostgres(t)
	d.as("writer")
	require.NoError(t, d.connect(d.url(writer)).Ping(t.Context()))
	other := given(t)
	for name, tt := range map[string]struct{ url, want string }{
		"no password":     {fmt.Sprintf("postgres://nobody@%s/books?sslmode=require", d.server.Addr()), "28P01"},
		"wrong password":  {fmt.Sprintf("postgres://ledgerfeed:wrong@%s/books?sslmode=require", d.server.Addr()), "28P01"},
		"superuser":       {fmt.Sprintf("postgres://postgres:ledgerfeed@%s/books?sslmode=require", d.server.Addr()), "28P01"},
		"no TLS":          {fmt.Sprintf("postgres://ledgerfeed@%s/books?sslmode=disable", d.server.Addr()), "28000"},
		"other authority": {fmt.Sprintf("postgres://ledgerfeed@%s/books?sslmode=verify-full&sslrootcert=%s/ca.crt", d.server.Addr(), other), "unknown authority"},
	} {
		_, err := pgx.Connect(t.Context(), tt.url)
		require.ErrorContains(t, err, tt.want, name)
	}
}

// The role that writes does all that a sink does, and nothing else.
func TestPostgres_AWriterWritesAndDoesNothingElse(t *testing.T) {
	for _, perEntity := range []bool{false, true} {
		t.Run(fmt.Sprint("per entity ", perEntity), func(t *testing.T) {
			d := startPostgres(t)
			d.setUp(postgres.Options{PerEntity: perEntity})
			s := d.writer(postgres.Options{PerEntity: perEntity})
			ctx := t.Context()
			first, next := sinktest.Change("1", 1, `{}`), sinktest.Change("1", 2, `{"a":1}`)
			odd := sinktest.Change("2", 1, `{}`)
			odd.Entity = "NeverHeardOf"
			for _, c := range []*ledgerfeedv1.Change{first, next, odd} {
				require.NoError(t, s.Write(ctx, []*ledgerfeedv1.Change{c}))
			}
			_, err := s.Position(ctx)
			require.NoError(t, err)
			require.NoError(t, s.KeepAudit(ctx, postgres.Audit{Run: "r", Realm: "1", Entity: "Invoice", Verdict: "no-gap"}))
			conn := d.connect(d.url(writer))
			var n int
			require.NoError(t, conn.QueryRow(ctx, "SELECT count(*) FROM ledgerfeed.change_after(0)").Scan(&n))
			require.Equal(t, 3, n)

			for _, attack := range []string{
				"DELETE FROM ledgerfeed.entity", "TRUNCATE ledgerfeed.entity", "DROP TABLE ledgerfeed.entity", "DROP SCHEMA ledgerfeed CASCADE",
				"UPDATE ledgerfeed.change SET version = 1", "TRUNCATE ledgerfeed.change", "DELETE FROM ledgerfeed.audit", "DELETE FROM ledgerfeed.position",
				"ALTER TABLE ledgerfeed.entity ADD COLUMN x int", "CREATE TABLE ledgerfeed.x ()", "CREATE TABLE public.x ()", "CREATE SCHEMA x",
				"CREATE INDEX ON ledgerfeed.entity (version)", "CREATE TRIGGER x BEFORE INSERT ON ledgerfeed.entity EXECUTE FUNCTION x()",
				"DELETE FROM ledgerfeed.entity_migrations", "INSERT INTO ledgerfeed.entity_migrations (version_id, is_applied) VALUES (99, true)",
				"CREATE ROLE x", "ALTER ROLE ledgerfeed SUPERUSER", "SET ROLE ledgerfeed_setup", "SET ROLE postgres", "CREATE DATABASE x", "DROP DATABASE books",
				"COPY ledgerfeed.entity TO PROGRAM 'cat'", "COPY ledgerfeed.entity FROM '/etc/passwd'", "SELECT pg_read_file('/etc/passwd')", "ALTER SYSTEM SET fsync = off",
				"SELECT * FROM pg_authid", "CREATE TEMPORARY TABLE x ()",
			} {
				_, err := conn.Exec(ctx, attack)
				pg := new(pgconn.PgError)
				require.ErrorAs(t, err, &pg, attack)
				require.Contains(t, []string{"42501", "42883"}, pg.Code, "%s: %s", attack, pg.Message)
			}
			var super, owns bool
			require.NoError(t, conn.QueryRow(ctx, `SELECT bool_or(rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls) FROM pg_roles WHERE rolname LIKE 'ledgerfeed%'`).Scan(&super))
			require.False(t, super)
			require.NoError(t, conn.QueryRow(ctx, `SELECT count(*) > 0 FROM pg_class WHERE relowner = 'ledgerfeed'::regrole`).Scan(&owns))
			require.False(t, owns)
		})
	}
}

// A processor that may not migrate waits for the job and says what is missing, from the first
// start to a missing right.
func TestPostgres_AWriterWaitsForTheSetup(t *testing.T) {
	d := startPostgres(t)
	d.as("writer")
	open := func() error {
		s, err := postgres.Open(t.Context(), postgres.Options{URL: d.url(writer), Verify: true})
		if err == nil {
			err = s.Close()
		}
		return err
	}
	wants := func(text string) {
		t.Helper()
		err := open()
		require.ErrorIs(t, err, stream.ErrNotSetUp)
		require.True(t, stream.Temporary(err))
		require.ErrorContains(t, err, "run `ledgerfeed setup`")
		require.ErrorContains(t, err, text)
	}
	wants("the tables of schema ledgerfeed are missing")
	d.setUp(postgres.Options{})
	require.NoError(t, open())
	d.server.SQL("REVOKE UPDATE ON ledgerfeed.entity FROM ledgerfeed")
	wants(`role ledgerfeed lacks UPDATE on "ledgerfeed"."entity"`)
	d.server.SQL("REVOKE USAGE ON SCHEMA ledgerfeed FROM ledgerfeed")
	wants("role ledgerfeed may not use schema ledgerfeed")
	d.setUp(postgres.Options{})
	require.NoError(t, open())
	d.server.SQL("DELETE FROM ledgerfeed.entity_migrations WHERE version_id = 7")
	wants("those of an earlier version")
	s, err := postgres.Open(t.Context(), postgres.Options{URL: d.url(writer), Verify: true, PerEntity: true})
	require.ErrorIs(t, err, stream.ErrNotSetUp)
	require.Nil(t, s)
}

// Tables that the superuser made, as deployments before had them, are taken over with their
// rows.
func TestPostgres_TakesOverTheTablesOfASuperuser(t *testing.T) {
	d := startPostgres(t)
	d.server.SQL("ALTER ROLE postgres PASSWORD 'old'")
	old, err := postgres.Open(t.Context(), postgres.Options{URL: secret.String(strings.Replace(d.url("postgres").Reveal(), "postgres@", "postgres:old@", 1))})
	require.NoError(t, err)
	require.NoError(t, old.Write(t.Context(), []*ledgerfeedv1.Change{sinktest.Change("1", 1, `{}`)}))
	require.NoError(t, old.Close())

	d.server.Script(d.roles)
	d.setUp(postgres.Options{})
	s := d.writer(postgres.Options{})
	next := sinktest.Change("1", 2, `{}`)
	require.NoError(t, s.Write(t.Context(), []*ledgerfeedv1.Change{next}))
	var version int64
	require.NoError(t, d.connect(d.url(writer)).QueryRow(t.Context(), "SELECT version FROM ledgerfeed.entity").Scan(&version))
	require.Equal(t, next.GetVersion(), version)
}

// A role that was forgotten is named with the remedy.
func TestPostgres_NamesTheRoleThatIsMissing(t *testing.T) {
	d := startPostgres(t)
	d.as("setup")
	_, err := postgres.SetUp(t.Context(), postgres.Options{URL: d.url("warehouse")}, migrator)
	require.ErrorContains(t, err, `role warehouse does not exist: create it with CREATE ROLE "warehouse" LOGIN`)
}

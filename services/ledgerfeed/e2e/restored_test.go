package e2e_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
)

// backups copies a database while nobody is connected to it, and puts the copy in its
// place.
type backups struct {
	*testing.T
	conn *pgx.Conn
	name string
}

func newBackups(t *testing.T, db string) backups {
	t.Helper()
	u, err := url.Parse(db)
	require.NoError(t, err)
	name := strings.TrimPrefix(u.Path, "/")
	u.Path = "/postgres"
	conn, err := pgx.Connect(context.Background(), u.String())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close(context.Background())) })
	return backups{t, conn, name}
}

func (b backups) exec(format string, args ...any) {
	b.Helper()
	_, err := b.conn.Exec(context.Background(), fmt.Sprintf(format, args...))
	require.NoError(b, err)
}

func (b backups) take() { b.exec(`CREATE DATABASE %[1]s_backup TEMPLATE %[1]s`, b.name) }

func (b backups) restore() {
	b.exec(`DROP DATABASE %s WITH (FORCE)`, b.name)
	b.exec(`ALTER DATABASE %[1]s_backup RENAME TO %[1]s`, b.name)
}

// The database of a sink is restored from a backup of before the last changes, which the
// marks in Redis call delivered: nobody does anything, and scans deliver them again.
func TestDev_APostgresThatWasRestoredIsGivenWhatItLost(t *testing.T) {
	t.Parallel()
	db := devtest.Postgres(t)
	dir, b := t.TempDir(), newBackups(t, db)
	run := func(seed string) {
		t.Helper()
		startDev(t, dir, "--for", loadFor.String(), "--realms", "2", "--rate", "30", "--seed", seed, "--json", "--sink", "postgres:"+db).equal()
	}
	run("1")
	b.take()
	run("2")
	b.restore()
	run("3")
}

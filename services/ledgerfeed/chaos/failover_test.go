package chaos

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// What was committed is there after each failover, and the server that was the primary
// takes no writes.
func TestDatabase_FailsOverAndBack(t *testing.T) {
	initdb, err := findInitdb()
	require.NoError(t, err)
	dir, err := os.MkdirTemp("", "ledgerfeed-chaos-failover-") // the test's own is closed to PostgreSQL
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	j, err := newJournal(filepath.Join(dir, "run.jsonl"))
	require.NoError(t, err)
	t.Cleanup(j.close)
	d, err := newDatabase(t.Context(), dir, initdb, ports{}, j)
	require.NoError(t, err)
	t.Cleanup(func() {
		d.pool.Close()
		for _, m := range d.members {
			m.process.stop(syscall.SIGINT, killWait)
		}
	})
	require.Len(t, d.processes(), 1)
	d.now().process.start()
	require.NoError(t, d.ready(t.Context()))
	_, err = d.pool.Exec(t.Context(), "CREATE TABLE kept (n int)")
	require.NoError(t, err)
	for n := range 2 {
		require.NoError(t, d.follow(t.Context()))
		_, err := d.pool.Exec(t.Context(), "INSERT INTO kept VALUES ($1)", n)
		require.NoError(t, err)
		old := d.now()
		require.NoError(t, d.failover(t.Context()))
		require.NotEqual(t, old.port, d.port())
		require.Len(t, d.processes(), 2)

		var rows int
		require.NoError(t, until(t.Context(), func(ctx context.Context) error {
			return d.pool.QueryRow(ctx, "SELECT count(*) FROM kept").Scan(&rows)
		}))
		require.Equal(t, n+1, rows)
		var answer error
		require.NoError(t, until(t.Context(), func(ctx context.Context) error {
			conn, err := pgx.Connect(ctx, d.url(old.port))
			if err != nil {
				return err // it is being started
			}
			defer func() { _ = conn.Close(ctx) }() // read only anyway
			_, answer = conn.Exec(ctx, "INSERT INTO kept VALUES (9)")
			return nil
		}))
		require.ErrorContains(t, answer, "read-only")
	}

	require.NoError(t, d.setReadOnly(t.Context(), true))
	require.NoError(t, until(t.Context(), func(ctx context.Context) error {
		if _, err := d.pool.Exec(ctx, "INSERT INTO kept VALUES (9)"); err == nil {
			return os.ErrExist // the setting is not read yet
		}
		return nil
	}))
	require.NoError(t, d.setReadOnly(t.Context(), false))
	require.NoError(t, until(t.Context(), func(ctx context.Context) error {
		_, err := d.pool.Exec(ctx, "INSERT INTO kept VALUES (9)")
		return err
	}))
}

// A run says that PgBouncer is missing, instead of leaving its fault out.
func TestFault_IsUnfitWithoutPgBouncer(t *testing.T) {
	_, _, err := killBouncer(t.Context(), &run{plant: &plant{}}, nil)
	require.ErrorIs(t, err, errNotPermitted)
}

package postgres_test

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/postgres"
)

var _ processor.Positioned = (*postgres.Sink)(nil)

// database names one of the server of a URL.
func database(t *testing.T, from, name string) (to string) {
	t.Helper()
	u, err := url.Parse(from)
	require.NoError(t, err)
	u.Path = "/" + name
	return u.String()
}

func nameOf(t *testing.T, from string) string {
	t.Helper()
	u, err := url.Parse(from)
	require.NoError(t, err)
	return strings.TrimPrefix(u.Path, "/")
}

// administer runs statements beside the database, whose connections it ends before.
func administer(t *testing.T, from string, statements ...string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, database(t, from, "postgres"))
	require.NoError(t, err)
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1`, nameOf(t, from))
	require.NoError(t, err)
	for _, s := range statements {
		_, err := conn.Exec(ctx, s)
		require.NoError(t, err, s)
	}
}

func TestPosition_GrowsAndGoesBackWithTheDatabase(t *testing.T) {
	for name, o := range modes {
		t.Run(name, func(t *testing.T) {
			o.URL = secret.String(devtest.Postgres(t))
			s := open(t, o)
			position := func(s *postgres.Sink) (p sink.Position) {
				t.Helper()
				require.Eventually(t, func() bool { // a connection may have been ended
					var err error
					p, err = s.Position(t.Context())
					return err == nil
				}, time.Minute, 10*time.Millisecond)
				return p
			}
			first := position(s)
			require.NotEmpty(t, first.ID)
			require.NotEmpty(t, first.Server)
			second := position(open(t, o)) // another replica, or a restart of ours
			require.Equal(t, sink.Position{ID: first.ID, Server: first.Server, N: first.N + 1}, second)

			db := nameOf(t, o.URL.Reveal())
			administer(t, o.URL.Reveal(), `CREATE DATABASE `+db+`_backup TEMPLATE `+db)
			for range 3 {
				position(s)
			}
			administer(t, o.URL.Reveal(), `DROP DATABASE `+db+` WITH (FORCE)`, `ALTER DATABASE `+db+`_backup RENAME TO `+db)
			require.Equal(t, sink.Position{ID: first.ID, Server: first.Server, N: second.N + 1}, position(s), "it was five before")

			// A backup of before the table.
			schema := "ledgerfeed"
			if o.Schema != "" {
				schema = o.Schema
			}
			exec(t, o.URL.Reveal(), `DROP SCHEMA `+schema+` CASCADE`)
			require.NotEqual(t, first.ID, position(s).ID)
		})
	}
}

package e2e_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/postgres"
)

// recorded is a database of the Postgres sink in which a trigger records each
// write of a row.
type recorded struct {
	url  string
	conn *pgx.Conn
}

func openRecorded(t *testing.T) recorded {
	t.Helper()
	ctx := context.Background()
	url := devtest.Postgres(t)
	sink, err := postgres.Open(ctx, postgres.Options{URL: secret.String(url)})
	require.NoError(t, err)
	require.NoError(t, sink.Close())

	conn, err := pgx.Connect(ctx, url)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close(ctx)) })
	_, err = conn.Exec(ctx, `
		CREATE TABLE written (realm text, entity text, id text, version bigint);
		CREATE FUNCTION record_write() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO written VALUES (NEW.realm, NEW.entity, NEW.id, NEW.version);
			RETURN NULL;
		END $$;
		CREATE TRIGGER record_write AFTER INSERT OR UPDATE ON ledgerfeed.entity
			FOR EACH ROW EXECUTE FUNCTION record_write()`)
	require.NoError(t, err)
	return recorded{url: url, conn: conn}
}

// writes is how many rows were written.
func (r recorded) writes(t *testing.T) int {
	t.Helper()
	var n int
	require.NoError(t, r.conn.QueryRow(context.Background(), `SELECT count(*) FROM written`).Scan(&n))
	return n
}

// writtenTwice are the versions that were written more than once.
func (r recorded) writtenTwice(t *testing.T) []string {
	t.Helper()
	rows, err := r.conn.Query(context.Background(), `
		SELECT concat_ws('/', realm, entity, id, version) FROM written GROUP BY 1 HAVING count(*) > 1`)
	require.NoError(t, err)
	twice, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return twice
}

func TestDev_PostgresHoldsBooksEachVersionWrittenOnce(t *testing.T) {
	t.Parallel()
	db := openRecorded(t)
	args := []string{
		"--for", loadFor.String(), "--realms", "4", "--rate", "50", "--seed", "1", "--json",
		"--drop", "0.1", "--duplicate", "0.2", "--reorder", "0.2", "--sink", "postgres:" + db.url,
	}
	s := startDev(t, t.TempDir(), args...).equal()
	require.Empty(t, db.writtenTwice(t))
	require.GreaterOrEqual(t, db.writes(t), s.Changes)

	// Another data directory with the same database: neither sees the other.
	startDev(t, t.TempDir(), args...).equal()
	require.Empty(t, db.writtenTwice(t))
}

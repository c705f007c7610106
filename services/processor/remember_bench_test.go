package processor_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/postgres"
)

// BenchmarkProcessor_GivesMarksBack is how long scans wait after Redis was emptied: until
// it has all marks of 200,000 records of 200 companies again. bare copies the same from
// PostgreSQL to Redis, and compares nothing.
func BenchmarkProcessor_GivesMarksBack(b *testing.B) {
	const records, realms = 200_000, 200
	w := setup(b)
	database := devtest.Postgres(b)
	sink, err := postgres.Open(b.Context(), postgres.Options{Name: "table", URL: secret.String(database)})
	require.NoError(b, err)
	defer sink.Close()
	db, err := pgx.Connect(b.Context(), database)
	require.NoError(b, err)
	defer db.Close(b.Context())
	for range sink.Held(b.Context(), nil) { // makes the table
	}
	_, err = db.Exec(b.Context(), `
INSERT INTO ledgerfeed.entity (realm, entity, id, version, sync_token, last_updated, deleted, operation, document, learned, learned_at, merged_into, event_id)
SELECT (9130347712000000 + n % $2)::text, (ARRAY['Invoice', 'Payment', 'Customer', 'TimeActivity'])[1 + n % 4], n::text, 1795842227000004, '4', now(), false, 'updated',
       jsonb_build_object('Id', n, 'Lines', (SELECT jsonb_agg(md5((n * 40 + i)::text)) FROM generate_series(1, 40) AS i)), 'webhook', now(), '', ''
FROM generate_series(1, $1) AS n`, records, realms)
	require.NoError(b, err)
	store := w.openState(devtest.RealRedis(b))
	var ours, bare time.Duration
	for b.Loop() {
		o := w.options()
		o.State, o.Sinks = store, []processor.Sink{sink}
		require.NoError(b, store.Redis().FlushDB(b.Context()).Err())
		began := time.Now()
		p := w.run(o)
		require.Eventually(b, func() bool {
			m, err := store.Memory(b.Context())
			return err == nil && !m.Forgotten()
		}, 10*time.Minute, 10*time.Millisecond)
		ours += time.Since(began)
		p.stop()

		require.NoError(b, store.Redis().FlushDB(b.Context()).Err())
		began = time.Now()
		copyMarks(b, db, store.Redis())
		bare += time.Since(began)
	}
	b.ReportMetric(float64(b.N*records)/ours.Seconds(), "records/s")
	b.ReportMetric(ours.Seconds()/bare.Seconds(), "×bare")
}

func copyMarks(b *testing.B, db *pgx.Conn, to redis.UniversalClient) {
	b.Helper()
	rows, err := db.Query(b.Context(), `SELECT realm, entity, id, version FROM ledgerfeed.entity`)
	require.NoError(b, err)
	defer rows.Close()
	pipe := to.Pipeline()
	for rows.Next() {
		var realm, entity, id string
		var version int64
		require.NoError(b, rows.Scan(&realm, &entity, &id, &version))
		pipe.HSet(b.Context(), "bare:"+realm+":"+entity, id, version)
		if pipe.Len() == 1000 {
			_, err := pipe.Exec(b.Context())
			require.NoError(b, err)
		}
	}
	require.NoError(b, rows.Err())
	_, err = pipe.Exec(b.Context())
	require.NoError(b, err)
}

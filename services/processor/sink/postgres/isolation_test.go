package postgres_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/postgres"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/sinktest"
)

// Where transactions are serializable by default, PostgreSQL breaks off what has waited for
// a row that another one changed. The sink writes it all the same.
func TestSink_WritesWhereTransactionsAreSerializable(t *testing.T) {
	for _, level := range []string{"serializable", "repeatable read"} {
		for name, behind := range ways {
			t.Run(level+" "+name, func(t *testing.T) {
				t.Parallel()
				direct := devtest.Postgres(t)
				exec(t, direct, `alter database `+nameOf(t, direct)+` set default_transaction_isolation = '`+level+`'`)
				s := open(t, postgres.Options{URL: secret.String(behind(t, direct))})
				write(t, s, sinktest.Change("7", 1, `{}`))
				now := time.Now().UTC()
				company := sink.Company{Realm: "1", Name: "before", ReadAt: now.Add(-2 * time.Hour)}
				gap := sink.Gap{Realm: "1", Entity: "Invoice", ID: "7", Version: 1, Operation: "update", Found: now, Source: "cdc", Verdict: "lost"}
				require.NoError(t, s.KeepCompanies(t.Context(), []sink.Company{company}))
				require.NoError(t, s.KeepGaps(t.Context(), []sink.Gap{gap}))
				company.Name, company.ReadAt = "after", now
				gap.Late = now
				for _, row := range []struct {
					touch string
					write func() error
				}{
					{`update ledgerfeed.entity set written_at = now()`, func() error { return s.Write(t.Context(), changes(sinktest.Change("7", 2, `{}`))) }},
					{`update ledgerfeed.entity set written_at = now()`, func() error { return s.Write(t.Context(), changes(sinktest.Change("7", 3, `{}`))) }},
					{`update ledgerfeed.company set country = 'US'`, func() error { return s.KeepCompanies(t.Context(), []sink.Company{company}) }},
					{`update ledgerfeed.gap set source = 'query'`, func() error { return s.KeepGaps(t.Context(), []sink.Gap{gap}) }},
				} {
					require.NoError(t, whileAnotherChanges(t, direct, row.touch, row.write))
				}
				require.Equal(t, 3, query[int](t, direct, `select count(*) from ledgerfeed.change`))
				require.Equal(t, "after", query[string](t, direct, `select name from ledgerfeed.company`))
				require.True(t, query[bool](t, direct, `select late_at is not null from ledgerfeed.gap`))
			})
		}
	}
}

// whileAnotherChanges writes while a transaction has changed rows, and commits that one once
// the write waits for it.
func whileAnotherChanges(t *testing.T, url, touch string, write func() error) error {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), "begin; "+touch)
	require.NoError(t, err)
	wrote := make(chan error, 1)
	go func() { wrote <- write() }()
	require.Eventually(t, func() bool {
		return query[bool](t, url, `select exists (select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database())`)
	}, 10*time.Second, 5*time.Millisecond)
	_, err = conn.Exec(t.Context(), "commit")
	require.NoError(t, err)
	return <-wrote
}

// What takes as long as a table is large is not ended by the statement_timeout of a role.
func TestOpen_MigratesInSpiteOfAStatementTimeout(t *testing.T) {
	url := devtest.Postgres(t)
	s := open(t, postgres.Options{URL: secret.String(url)})
	write(t, s, sinktest.Change("7", 1, `{}`), of("Bill", "8", 1))
	require.NoError(t, s.Close())
	exec(t, url, `create function slow() returns event_trigger language plpgsql as $$ begin perform pg_sleep(0.4); end $$;
		create event trigger slow_`+nameOf(t, url)+` on ddl_command_start when tag in ('CREATE TABLE') execute function slow()`)
	split := open(t, postgres.Options{URL: secret.String(url + "&statement_timeout=300"), PerEntity: true})
	write(t, split, sinktest.Change("7", 2, `{}`))
	require.Equal(t, 1, query[int](t, url, `select count(*) from ledgerfeed.invoice`))
}

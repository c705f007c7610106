package postgres_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/postgres"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/sinktest"
)

// A probe writes as a sink does and leaves nothing.
func TestProbe_WritesAndTakesItBack(t *testing.T) {
	for name, o := range modes {
		for place, behind := range map[string]func(testing.TB, string) string{
			"direct": func(_ testing.TB, url string) string { return url }, "behind PgBouncer": devtest.PgBouncer,
		} {
			t.Run(name+" "+place, func(t *testing.T) {
				url := devtest.Postgres(t)
				o := o
				o.URL = secret.String(behind(t, url))
				require.NoError(t, postgres.Probe(t.Context(), o), "before the first start")
				require.Zero(t, query[int](t, url, `select count(*) from pg_namespace where nspname in ('ledgerfeed', 'books')`))

				s := open(t, o)
				write(t, s, sinktest.Change("7", 1, `{}`))
				require.NoError(t, postgres.Probe(t.Context(), o))
				held, err := s.Snapshot(t.Context())
				require.NoError(t, err)
				require.Len(t, held, 1)
				write(t, s, sinktest.Change("8", 1, `{}`))
				require.NoError(t, s.Close())
			})
		}
	}
}

func TestProbe_SaysWhatIsWrong(t *testing.T) {
	for name, row := range map[string]struct{ spoil, want string }{
		"no right to write":    {`revoke insert on ledgerfeed.entity from feed`, "SQLSTATE 42501"},
		"no right to the log":  {`revoke insert on ledgerfeed.change from feed`, "SQLSTATE 42501"},
		"a read-only database": {`do $$ begin execute 'alter database ' || current_database() || ' set default_transaction_read_only = on'; end $$`, "the server is read-only"},
		"a trigger": {`create function no() returns trigger language plpgsql as $$ begin raise exception 'closed'; end $$;
			create trigger no before insert on ledgerfeed.entity for each row execute function no()`, "closed (SQLSTATE P0001)"},
		"a table that is gone in part": {`alter table ledgerfeed.change rename to away`, "SQLSTATE 42P01"},
	} {
		t.Run(name, func(t *testing.T) {
			url := devtest.Postgres(t)
			exec(t, url, `do $$ begin if not exists (select from pg_roles where rolname = 'feed') then create role feed login; end if; end $$`)
			require.NoError(t, open(t, postgres.Options{URL: secret.String(url)}).Close())
			exec(t, url, `grant usage on schema ledgerfeed to feed; grant all on all tables in schema ledgerfeed to feed; grant all on all sequences in schema ledgerfeed to feed`)
			o := postgres.Options{URL: secret.String(strings.Replace(url, "postgres@", "feed@", 1))}
			require.NoError(t, postgres.Probe(t.Context(), o))
			exec(t, url, row.spoil)
			require.ErrorContains(t, postgres.Probe(t.Context(), o), row.want)
		})
	}
}

// The tables of a version before get their columns at the next start.
func TestProbe_TakesTheTablesOfAnEarlierVersion(t *testing.T) {
	require.NoError(t, postgres.Probe(t.Context(), postgres.Options{URL: secret.String(firstRelease(t))}))
}

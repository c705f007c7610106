package postgres_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/postgres"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/sinktest"
)

// After a failover writes go on as soon as the endpoint leads to the new primary. The old
// one is back before that, and takes no writes.
func TestSink_LeavesAServerThatWasDemoted(t *testing.T) {
	for name, query := range map[string]string{"direct": "", "simple protocol": "&default_query_exec_mode=simple_protocol"} {
		t.Run(name, func(t *testing.T) { failover(t, query) })
	}
}

func failover(t *testing.T, parameters string) {
	pair := devtest.StartPostgresPair(t)
	endpoint := devtest.NewProxy(t, pair.Primary())
	s := open(t, postgres.Options{URL: secret.String("postgres://postgres@" + endpoint.Addr() + "/postgres?sslmode=disable&pool_max_conns=4" + parameters)})
	n := 0
	put := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := s.Write(ctx, changes(sinktest.Change(fmt.Sprint(n), 1, `{}`)))
		if err == nil {
			n++
		} else {
			requireNotPermanent(t, err)
		}
		return err
	}
	for range 20 {
		require.NoError(t, put())
	}

	pair.Failover()
	var last error
	require.Eventually(t, func() bool { last = put(); return last != nil }, 10*time.Second, 10*time.Millisecond, "the old primary takes writes")
	require.Eventually(t, func() bool {
		last = put()
		return last != nil && strings.Contains(last.Error(), "read-only")
	}, 10*time.Second, 10*time.Millisecond, "the error names the reason: %v", last)

	endpoint.Redirect(pair.Standby())
	require.Eventually(t, func() bool { return put() == nil }, 10*time.Second, 10*time.Millisecond)
	for range 20 {
		require.NoError(t, put())
	}
	at := "postgres://postgres@" + pair.Standby() + "/postgres?sslmode=disable"
	require.Equal(t, n, query[int](t, at, `select count(*) from ledgerfeed.entity`), "all that was acknowledged")
	old := "postgres://postgres@" + pair.Primary() + "/postgres?sslmode=disable"
	require.Zero(t, query[int](t, old, `select count(*) from pg_stat_activity where application_name = 'ledgerfeed'`))
}

// A disk that is full costs no change: they are written once there is room.
func TestSink_WaitsForADiskThatIsFull(t *testing.T) {
	for name, o := range modes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := devtest.FullPostgres(t)
			o.URL = secret.String(url)
			s := open(t, o)
			put := func(id string) error {
				return s.Write(t.Context(), changes(sinktest.Change(id, 1, `{"Random":"`+random(t, 1<<20)+`"}`)))
			}
			n := 0
			var full error
			require.Eventually(t, func() bool {
				if full = put(fmt.Sprint(n)); full == nil {
					n++
				}
				return full != nil
			}, time.Minute, time.Millisecond)
			require.ErrorContains(t, full, "could not extend file")
			require.Equal(t, "SQLSTATE 53100", sink.ReasonOf(full))
			requireNotPermanent(t, full)
			require.Error(t, put("one more"))

			schema := cmp.Or(o.Schema, "ledgerfeed")
			table := schema + "." + cmp.Or(o.Table, "entity")
			require.Equal(t, n, query[int](t, url, `select count(*) from `+table))
			makeRoom(t, url, schema)
			require.NoError(t, put("one more"))
			require.Equal(t, n+1, query[int](t, url, `select count(*) from `+table))
		})
	}
}

// random is text that does not compress well.
func random(t *testing.T, bytes int) string {
	t.Helper()
	b := make([]byte, bytes/4*3)
	_, err := rand.Read(b)
	require.NoError(t, err)
	return base64.StdEncoding.EncodeToString(b)
}

// makeRoom removes the documents of a schema, and rewrites its tables.
func makeRoom(t *testing.T, url, schema string) {
	t.Helper()
	for _, table := range strings.Fields(query[string](t, url, `select string_agg(oid::regclass::text, ' ') from pg_class
		where relnamespace = '`+schema+`'::regnamespace and relkind = 'r' and exists (select from pg_attribute where attrelid = pg_class.oid and attname = 'document')`)) {
		exec(t, url, `update `+table+` set document = null`)
		exec(t, url, `vacuum full `+table)
	}
}

// A database that is made read-only, by hand or by a provider's guard of the disk, takes
// writes again without help.
func TestSink_WaitsForADatabaseThatIsReadOnly(t *testing.T) {
	for _, when := range []string{"before the first start", "while running"} {
		t.Run(when, func(t *testing.T) {
			url := devtest.Postgres(t)
			name := query[string](t, url, `select current_database()`)
			readOnly := func() {
				exec(t, url, `alter database `+name+` set default_transaction_read_only = on`)
				exec(t, url, `begin; set transaction read write; select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid(); commit`)
			}
			if when == "before the first start" {
				readOnly()
			}
			s := open(t, postgres.Options{URL: secret.String(url)})
			if when == "while running" {
				write(t, s, sinktest.Change("6", 1, `{}`))
				readOnly()
			}
			require.Eventually(t, func() bool {
				err := s.Write(t.Context(), changes(sinktest.Change("7", 1, `{}`)))
				require.Error(t, err)
				requireNotPermanent(t, err)
				return strings.Contains(err.Error(), "read-only")
			}, 10*time.Second, 10*time.Millisecond)
			exec(t, url, `begin; set transaction read write; alter database `+name+` set default_transaction_read_only = off; commit`)
			require.Eventually(t, func() bool {
				return s.Write(t.Context(), changes(sinktest.Change("7", 1, `{}`))) == nil
			}, 10*time.Second, 10*time.Millisecond)
		})
	}
}

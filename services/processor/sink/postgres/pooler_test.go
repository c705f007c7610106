package postgres_test

import (
	"fmt"
	"os"
	osexec "os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sync/errgroup"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/postgres"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/sinktest"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

func changes(all ...*ledgerfeedv1.Change) []*ledgerfeedv1.Change { return all }

func requireNotPermanent(t *testing.T, err error) {
	t.Helper()
	_, permanent := stream.AsPermanent(err)
	require.False(t, permanent, "%v", err)
}

// queryModes are pgx's; empty is the default.
var queryModes = []string{"", "cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"}

// ways are how a sink gets to a database.
var ways = map[string]func(testing.TB, string) string{
	"direct": func(_ testing.TB, url string) string { return url }, "behind PgBouncer": devtest.PgBouncer,
}

// Every query mode works, also where each transaction gets another connection.
func TestSink_WorksInEveryQueryMode(t *testing.T) {
	for _, mode := range queryModes {
		for name, behind := range ways {
			t.Run(mode+" "+name, func(t *testing.T) {
				t.Parallel()
				direct := devtest.Postgres(t)
				found := worksInMode(t, direct, behind(t, direct), mode)
				cannot := mode != "cache_describe" && mode != "exec" && mode != "simple_protocol"
				require.Equal(t, cannot && strings.Contains(name, "PgBouncer"), found)
			})
		}
	}
}

// What a role or a database is set to changes nothing of what is stored and read.
func TestSink_WorksWhateverTheDatabaseIsSetTo(t *testing.T) {
	for _, mode := range queryModes {
		for name, behind := range ways {
			t.Run(mode+" "+name, func(t *testing.T) {
				t.Parallel()
				direct := devtest.Postgres(t)
				for _, setting := range []string{
					"search_path = ''", "timezone = 'Asia/Kolkata'", "datestyle = 'German, DMY'", "intervalstyle = 'sql_standard'",
					"standard_conforming_strings = off", "backslash_quote = on", "bytea_output = 'escape'", "extra_float_digits = -5",
					"default_transaction_isolation = 'serializable'", "default_transaction_deferrable = on", "xmloption = document",
					"client_encoding = 'LATIN1'", "quote_all_identifiers = on",
				} {
					exec(t, direct, "alter database "+nameOf(t, direct)+" set "+setting)
				}
				worksInMode(t, direct, behind(t, direct), mode)
			})
		}
	}
}

// worksInMode has several processes migrate, write and read at the same time, and reports
// whether they said that there is a pooler.
func worksInMode(t *testing.T, direct, url, mode string) (pooler bool) {
	t.Helper()
	if mode != "" {
		url += "&default_query_exec_mode=" + mode
	}
	core, logged := observer.New(zap.InfoLevel)
	const writers, batches = 4, 25
	sinks := make([]*postgres.Sink, writers)
	var g errgroup.Group
	for range 2 {
		g.Go(func() error { return migrateInProcess(t, url) })
	}
	for i := range sinks {
		g.Go(func() (err error) {
			sinks[i], err = postgres.Open(t.Context(), postgres.Options{URL: secret.String(url), PerEntity: true, Logger: zap.New(core), KeepLog: time.Hour, KeepGaps: time.Hour})
			return err
		})
	}
	require.NoError(t, g.Wait(), "all migrate at once")
	for i, s := range sinks {
		t.Cleanup(func() { require.NoError(t, s.Close()) })
		g.Go(func() error {
			for n := range batches {
				c := sinktest.Change(fmt.Sprint(i, "/", n), int64(n), `{"Name":"Müller € \\ ' 日本","n":1.50}`)
				if err := s.Write(t.Context(), changes(c, sinktest.Tombstone("gone", int64(n)))); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, g.Wait())
	require.Equal(t, writers*batches+1, query[int](t, direct, `select count(*) from ledgerfeed.entity`))
	require.Equal(t, writers*batches, query[int](t, direct+"&client_encoding=UTF8", `select count(*) from ledgerfeed.entity where document->>'Name' = $1`, `Müller € \ ' 日本`))
	requireStored(t, sinks[0], sinktest.Change("1/3", 3, `{"Name":"Müller € \\ ' 日本","n":1.50}`))
	everythingElse(t, sinks[0])
	requireNoLocks(t, direct)
	return logged.FilterMessageSnippet("pooler detected").Len() > 0
}

// requireStored looks for a change as it was written.
func requireStored(t *testing.T, s *postgres.Sink, c *ledgerfeedv1.Change) {
	t.Helper()
	want := sink.RecordOf(c)
	for got, err := range s.Records(t.Context()) {
		require.NoError(t, err)
		if got.Ref != want.Ref {
			continue
		}
		require.JSONEq(t, string(want.Document), string(got.Document))
		require.Equal(t, qbo.ContentHash(want.Document), qbo.ContentHash(got.Document), "1.50 is not 1.5")
		require.True(t, want.LastUpdated.Equal(got.LastUpdated) && want.LearnedAt.Equal(got.LearnedAt), "%v %v", want, got)
		want.Document, want.LastUpdated, want.LearnedAt = got.Document, got.LastUpdated, got.LearnedAt
		require.Equal(t, want, got)
		return
	}
	t.Fatalf("%v is not there", want.Ref)
}

// requireNoLocks fails for a lock that outlives its transaction.
func requireNoLocks(t *testing.T, url string) {
	t.Helper()
	require.Eventually(t, func() bool {
		return query[int](t, url, `select count(*) from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())`) == 0
	}, 10*time.Second, 10*time.Millisecond)
	require.Zero(t, query[int](t, url, `select count(*) from ledgerfeed.entity_migration_lock where locked`))
}

// migrateInProcess opens a sink in a process of its own: see TestMain.
func migrateInProcess(t *testing.T, url string) error {
	cmd := osexec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), openVariable+"="+url)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// everythingElse uses what a sink does beside writing.
func everythingElse(t *testing.T, s *postgres.Sink) {
	t.Helper()
	now := time.Now().UTC().Truncate(time.Second)
	require.NoError(t, s.KeepGaps(t.Context(), []sink.Gap{{Realm: "1", Entity: "Invoice", ID: "7", Version: 1, Operation: "update", Found: now, Source: "cdc", Verdict: "lost"}}))
	require.NoError(t, s.KeepCompanies(t.Context(), []sink.Company{{Realm: "1", Name: "Craig's\x00", ReadAt: now}}))
	require.NoError(t, s.KeepAudit(t.Context(), postgres.Audit{Run: "r", Realm: "1", Entity: "Invoice", At: now, Verdict: "equal"}))
	_, err := s.Position(t.Context())
	require.NoError(t, err)
	held, err := s.Snapshot(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, held)
	n := 0
	for _, err := range s.Records(t.Context()) {
		require.NoError(t, err)
		n++
	}
	require.Len(t, held, n)
	for _, err := range s.Held(t.Context(), nil) {
		require.NoError(t, err)
	}
	alive, err := s.Alive(t.Context(), "1", "Invoice")
	require.NoError(t, err)
	require.Equal(t, n-1, alive)
	versions, err := s.Versions(t.Context(), "1", "Invoice", []string{"0/1", "1/2"})
	require.NoError(t, err)
	require.Len(t, versions, 2)
	documents, err := s.Documents(t.Context(), "1", "Invoice", []string{"0/1", "1/2"})
	require.NoError(t, err)
	require.Len(t, documents, 2)
	require.NoError(t, s.Each(t.Context(), "1", "Invoice", func(string, sink.Row) error { return nil }))
}

// Documents are UTF-8, whatever a role says.
func TestSink_WritesUTF8ForARoleOfAnotherEncoding(t *testing.T) {
	for name, behind := range ways {
		t.Run(name, func(t *testing.T) {
			url := devtest.Postgres(t)
			exec(t, url, `create role latin superuser login; alter role latin set client_encoding = 'LATIN1'`)
			t.Cleanup(func() { exec(t, url, `drop owned by latin; drop role latin`) })
			s := open(t, postgres.Options{URL: secret.String(behind(t, strings.Replace(url, "postgres@", "latin@", 1)))})
			write(t, s, sinktest.Change("7", 1, `{"Name":"Müller € 日本"}`))
			require.Equal(t, "Müller € 日本", query[string](t, url, `select document->>'Name' from ledgerfeed.entity`))
			require.NoError(t, s.Close())
		})
	}
}

func TestOpen_RefusesADatabaseThatIsNotUTF8(t *testing.T) {
	url := devtest.Postgres(t)
	for _, encoding := range []string{"LATIN1", "SQL_ASCII"} {
		t.Run(encoding, func(t *testing.T) {
			name := "in_" + strings.ToLower(encoding)
			exec(t, url, `create database `+name+` encoding '`+encoding+`' template template0 locale 'C'`)
			_, err := postgres.Open(t.Context(), postgres.Options{URL: secret.String(strings.Replace(url, "/test_", "/"+name+"?x=", 1))})
			require.Error(t, err)
			at := strings.Index(url, "/test_")
			end := strings.Index(url, "?")
			_, err = postgres.Open(t.Context(), postgres.Options{URL: secret.String(url[:at] + "/" + name + url[end:])})
			require.ErrorContains(t, err, "the database is not in UTF8 but in "+encoding+": create it with ENCODING 'UTF8'")
		})
	}
}

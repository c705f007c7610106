package postgres_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sync/errgroup"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
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

// Every query mode works, also where each transaction gets another connection.
func TestSink_WorksInEveryQueryMode(t *testing.T) {
	for _, mode := range queryModes {
		for name, behind := range map[string]func(testing.TB, string) string{
			"direct": func(_ testing.TB, url string) string { return url }, "behind PgBouncer": devtest.PgBouncer,
		} {
			t.Run(mode+" "+name, func(t *testing.T) {
				t.Parallel()
				direct := devtest.Postgres(t)
				url := behind(t, direct)
				if mode != "" {
					url += "&default_query_exec_mode=" + mode
				}
				core, logged := observer.New(zap.InfoLevel)
				const writers, batches = 4, 25
				sinks := make([]*postgres.Sink, writers)
				var g errgroup.Group
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
							c := sinktest.Change(fmt.Sprint(i, "/", n), int64(n), `{"Name":"Müller € 日本","n":1.50}`)
							if err := s.Write(t.Context(), changes(c, sinktest.Tombstone("gone", int64(n)))); err != nil {
								return err
							}
						}
						return nil
					})
				}
				require.NoError(t, g.Wait())
				require.Equal(t, writers*batches+1, query[int](t, direct, `select count(*) from ledgerfeed.entity`))
				require.Equal(t, writers*batches, query[int](t, direct, `select count(*) from ledgerfeed.entity where document->>'Name' = 'Müller € 日本'`))
				everythingElse(t, sinks[0])
				found := logged.FilterMessageSnippet("pooler detected").Len() > 0
				cannot := mode != "cache_describe" && mode != "exec" && mode != "simple_protocol"
				require.Equal(t, cannot && strings.Contains(name, "PgBouncer"), found, "%v", logged.All())
			})
		}
	}
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
	for name, behind := range map[string]func(testing.TB, string) string{
		"direct": func(_ testing.TB, url string) string { return url }, "behind PgBouncer": devtest.PgBouncer,
	} {
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

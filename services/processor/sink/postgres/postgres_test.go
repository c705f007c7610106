package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/postgres"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/sinktest"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

var _ processor.Sink = (*postgres.Sink)(nil)

// openVariable has the test binary open a sink and end: it is another process then.
const openVariable = "LEDGERFEED_TEST_OPEN"

func TestMain(m *testing.M) {
	url := os.Getenv(openVariable)
	if url == "" {
		os.Exit(devtest.Main(m))
	}
	s, err := postgres.Open(context.Background(), postgres.Options{URL: secret.String(url), PerEntity: true})
	if err == nil {
		err = s.Close()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func open(t testing.TB, o postgres.Options) *postgres.Sink {
	t.Helper()
	s, err := postgres.Open(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// query returns the one value that sql asks for.
func query[T any](t *testing.T, url, sql string, args ...any) T {
	t.Helper()
	ctx := context.WithoutCancel(t.Context()) // also for the cleanup
	conn, err := pgx.Connect(ctx, url)
	require.NoError(t, err)
	defer conn.Close(ctx)
	var v T
	require.NoError(t, conn.QueryRow(ctx, sql, args...).Scan(&v))
	return v
}

func exec(t *testing.T, url, sql string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context()) // also for the cleanup
	conn, err := pgx.Connect(ctx, url)
	require.NoError(t, err)
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql)
	require.NoError(t, err)
}

// modes are the ways to keep the same.
var modes = map[string]postgres.Options{
	"one table":             {},
	"a table per entity":    {PerEntity: true},
	"another table, no log": {PerEntity: true, NoLog: true, Schema: "books", Table: "a", KeepLog: time.Hour},
}

func TestSink_KeepsTheContract(t *testing.T) {
	for name, o := range modes {
		t.Run(name, func(t *testing.T) {
			sinktest.Run(t, func(t *testing.T) sinktest.Place {
				o := o
				o.URL = secret.String(devtest.Postgres(t))
				t.Cleanup(func() { requireSoundLog(t, o) })
				return sinktest.Place{Shared: true, Open: func() sinktest.Sink { return open(t, o) }}
			})
		})
	}
}

func TestOpen_MigratesOnceWhenManyStartTogether(t *testing.T) {
	url := devtest.Postgres(t)
	var g errgroup.Group
	for range 5 {
		g.Go(func() error {
			s, err := postgres.Open(t.Context(), postgres.Options{URL: secret.String(url)})
			if err != nil {
				return err
			}
			return s.Close()
		})
	}
	require.NoError(t, g.Wait())
	require.EqualValues(t, 1, query[int64](t, url, `select count(*) from ledgerfeed.entity_migrations where version_id = 1`))
	require.EqualValues(t, 1, query[int64](t, url, `select count(*) from ledgerfeed.entity_migrations where version_id = 2`))
	require.EqualValues(t, 0, query[int64](t, url, `select count(*) from ledgerfeed.entity`))
}

func TestOpen_TwoTablesInOneDatabase(t *testing.T) {
	url := devtest.Postgres(t)
	a := open(t, postgres.Options{Name: "a", URL: secret.String(url), Schema: "books", Table: "a"})
	b := open(t, postgres.Options{Name: "b", URL: secret.String(url), Schema: "books", Table: "b"})
	require.Equal(t, "a", a.Name())
	require.NoError(t, a.Write(t.Context(), []*ledgerfeedv1.Change{sinktest.Change("7", 1, `{}`)}))
	require.EqualValues(t, 1, query[int64](t, url, `select count(*) from books.a`))
	held, err := b.Snapshot(t.Context())
	require.NoError(t, err)
	require.Empty(t, held)
}

// A schema that an administrator made is enough: the right to create one is not.
func TestOpen_NeedsNoRightToCreateASchema(t *testing.T) {
	url := devtest.Postgres(t)
	exec(t, url, `create role feed login; create schema ledgerfeed authorization feed`)
	t.Cleanup(func() { exec(t, url, `drop owned by feed; drop role feed`) })
	s := open(t, postgres.Options{URL: secret.String(strings.Replace(url, "postgres@", "feed@", 1))})
	require.NoError(t, s.Write(t.Context(), []*ledgerfeedv1.Change{sinktest.Change("7", 1, `{}`)}))
	require.NoError(t, s.Close())
}

func TestOpen_SaysWhatIsWrong(t *testing.T) {
	url := devtest.Postgres(t)
	for name, row := range map[string]struct {
		o    postgres.Options
		want string
	}{
		"no such database": {postgres.Options{URL: secret.String(strings.Replace(url, "/test_", "/nowhere_", 1))}, "does not exist"},
		"no URL":           {postgres.Options{URL: "postgres://me:hunter2@host:port/x"}, "parse"},
		"schema":           {postgres.Options{URL: secret.String(url), Schema: `a"b`}, `schema "a\"b"`},
		"table":            {postgres.Options{URL: secret.String(url), Table: "Drop"}, `table "Drop"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := postgres.Open(t.Context(), row.o)
			require.ErrorContains(t, err, row.want)
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
}

// A start without the rights it needs ends, and says which are missing.
func TestOpen_SaysWhichRightIsMissing(t *testing.T) {
	for name, row := range map[string]struct {
		from, prepare, want string
	}{
		"no schema":                        {devtest.Postgres(t), ``, "create schema ledgerfeed: ERROR: permission denied for database"},
		"a schema of another owner":        {devtest.Postgres(t), `create schema ledgerfeed; grant usage on schema ledgerfeed to $role`, "permission denied for schema ledgerfeed"},
		"a schema that nobody may look at": {firstRelease(t), ``, "permission denied for schema ledgerfeed"},
		"tables of another owner": {
			firstRelease(t), `grant all on schema ledgerfeed to $role; grant all on all tables in schema ledgerfeed to $role`, "must be owner of ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			role := "stranger_" + nameOf(t, row.from)
			exec(t, row.from, `create role `+role+` login; `+strings.ReplaceAll(row.prepare, "$role", role))
			t.Cleanup(func() { exec(t, row.from, `drop owned by `+role+`; drop role `+role) })
			_, err := postgres.Open(t.Context(), postgres.Options{URL: secret.String(strings.Replace(row.from, "postgres@", role+"@", 1))})
			require.ErrorContains(t, err, row.want)
			require.ErrorContains(t, err, "42501")
		})
	}
}

// A database that comes up after us is migrated then.
func TestSink_WaitsForADatabaseThatIsAway(t *testing.T) {
	direct := devtest.Postgres(t)
	proxy := newProxy(t, direct)
	s := open(t, postgres.Options{URL: secret.String(proxy.url)})
	err := s.Write(t.Context(), []*ledgerfeedv1.Change{sinktest.Change("7", 1, `{}`)})
	require.Error(t, err)
	_, permanent := stream.AsPermanent(err)
	require.False(t, permanent)

	proxy.start(t)
	require.NoError(t, s.Write(t.Context(), []*ledgerfeedv1.Change{sinktest.Change("7", 1, `{}`)}))
	require.EqualValues(t, 1, query[int64](t, direct, `select count(*) from ledgerfeed.entity`))
}

// A connection lost in a write may be tried again.
func TestSink_RecoversWhenTheConnectionBreaks(t *testing.T) {
	direct := devtest.Postgres(t)
	proxy := newProxy(t, direct)
	proxy.start(t)
	s := open(t, postgres.Options{URL: secret.String(proxy.url)})
	require.NoError(t, s.Write(t.Context(), []*ledgerfeedv1.Change{sinktest.Change("7", 1, `{}`)}))

	proxy.stop()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := s.Write(ctx, []*ledgerfeedv1.Change{sinktest.Change("7", 2, `{}`)})
	require.Error(t, err)
	_, permanent := stream.AsPermanent(err)
	require.False(t, permanent)

	proxy.start(t)
	require.Eventually(t, func() bool {
		return s.Write(t.Context(), []*ledgerfeedv1.Change{sinktest.Change("7", 2, `{}`)}) == nil
	}, 10*time.Second, 10*time.Millisecond)
}

func TestSink_RefusesForGoodWhatItCannotHold(t *testing.T) {
	url := devtest.Postgres(t)
	s := open(t, postgres.Options{URL: secret.String(url)})
	exec(t, url, `alter table ledgerfeed.entity add constraint theirs check (id <> 'forbidden')`)
	nested := strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)
	for name, row := range map[string]struct {
		change *ledgerfeedv1.Change
		want   string
	}{
		"NUL in the id":     {sinktest.Change("7\x00", 1, `{}`), "22021"},
		"no JSON":           {sinktest.Change("7", 1, `{"Memo":"secret}`), "22P02"},
		"out of range":      {sinktest.Change("7", 1, `{"Amount":1e200000}`), "22003"},
		"nested too deeply": {sinktest.Change("7", 1, nested), "54001"},
		"a constraint":      {sinktest.Change("forbidden", 1, `{"Memo":"secret"}`), "23514"},
	} {
		t.Run(name, func(t *testing.T) {
			err := s.Write(t.Context(), []*ledgerfeedv1.Change{row.change})
			reason, permanent := stream.AsPermanent(err)
			require.True(t, permanent, "%v", err)
			require.Equal(t, stream.ReasonSinkRefused, reason)
			require.ErrorContains(t, err, row.want)
			require.NotContains(t, err.Error(), "secret")
		})
	}
}

// What an operator can mend must not cost a single change.
func TestSink_ATableThatIsGoneIsNoReasonToGiveUp(t *testing.T) {
	url := devtest.Postgres(t)
	s := open(t, postgres.Options{URL: secret.String(url)})
	exec(t, url, `alter table ledgerfeed.entity rename to away`)
	err := s.Write(t.Context(), []*ledgerfeedv1.Change{sinktest.Change("7", 1, `{}`)})
	require.ErrorContains(t, err, "42P01")
	_, permanent := stream.AsPermanent(err)
	require.False(t, permanent)
	exec(t, url, `alter table ledgerfeed.away rename to entity`)
	require.NoError(t, s.Write(t.Context(), []*ledgerfeedv1.Change{sinktest.Change("7", 1, `{}`)}))
}

// All or nothing: a batch with one bad change leaves no trace.
func TestSink_ABatchIsOneTransaction(t *testing.T) {
	s := open(t, postgres.Options{URL: secret.String(devtest.Postgres(t))})
	err := s.Write(t.Context(), []*ledgerfeedv1.Change{sinktest.Change("7", 1, `{}`), sinktest.Change("8", 1, `{"a":1e200000}`)})
	require.Error(t, err)
	held, err := s.Snapshot(t.Context())
	require.NoError(t, err)
	require.Empty(t, held)
}

// proxy is a way to a database that can be closed.
type proxy struct {
	url, listen, target string

	mu       sync.Mutex // guards the rest
	listener net.Listener
	conns    []net.Conn
}

func newProxy(t *testing.T, direct string) *proxy {
	t.Helper()
	u, err := url.Parse(direct)
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{listen: l.Addr().String(), target: u.Host}
	require.NoError(t, l.Close())
	u.Host = p.listen
	p.url = u.String()
	t.Cleanup(p.stop)
	return p
}

func (p *proxy) start(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", p.listen)
	require.NoError(t, err)
	p.mu.Lock()
	p.listener = l
	p.mu.Unlock()
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", p.target)
			if err != nil {
				in.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, in, out)
			p.mu.Unlock()
			go func() { io.Copy(out, in); out.Close() }()
			go func() { io.Copy(in, out); in.Close() }()
		}
	}()
}

func (p *proxy) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	if p.listener != nil {
		errs = append(errs, p.listener.Close())
	}
	for _, c := range p.conns {
		errs = append(errs, c.Close())
	}
	_ = errors.Join(errs...)
	p.conns = nil
}

package postgres_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/postgres"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/sinktest"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// requireSoundLog: each document of a version once but for replays, versions of an entity in
// the order of their numbers but for restored records, and the last of them what the table holds.
func requireSoundLog(t *testing.T, o postgres.Options) {
	t.Helper()
	table, log := "ledgerfeed.entity", "ledgerfeed.change"
	if o.Table != "" {
		table, log = o.Schema+"."+o.Table, o.Schema+"."+o.Table+"_change"
	}
	url := o.URL.Reveal()
	if o.NoLog {
		require.Zero(t, query[int](t, url, `select count(*) from `+log))
		return
	}
	require.Zero(t, query[int](t, url, `select count(*) from (
		select version, learned, key, lag(version) over w as before, lag(key) over w as key_before
		from `+log+` window w as (partition by realm, entity, id order by seq)) as l
		where before > version and learned <> 'restored' or before = version and key = key_before and learned <> 'replay'`))
	require.Zero(t, query[int](t, url, `select count(*) from (
		select distinct on (realm, entity, id) * from `+log+` order by realm, entity, id, seq desc) as l
		full join `+table+` as e using (realm, entity, id)
		where (l.version, l.sync_token, l.last_updated, l.deleted, l.operation, l.document, l.learned, l.learned_at, l.merged_into, l.event_id)
			is distinct from (e.version, e.sync_token, e.last_updated, e.deleted, e.operation, e.document, e.learned, e.learned_at, e.merged_into, e.event_id)
			or l.key <> concat_ws('/', e.realm, e.entity, e.id, e.version, e.content_hash,
				case when e.learned = 'restored' then 'restored/' || e.event_id end)`))
}

// tail is a reader of the change log.
type tail struct {
	conn *pgx.Conn
	last int64
	keys []string
}

func newTail(t *testing.T, url string) *tail {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	return &tail{conn: conn}
}

// read reads what is there now.
func (r *tail) read(ctx context.Context) error {
	rows, err := r.conn.Query(ctx, `select seq, key from ledgerfeed.change_after($1, 7)`, r.last)
	if err != nil {
		return err
	}
	var seq int64
	var key string
	n := 0
	_, err = pgx.ForEachRow(rows, []any{&seq, &key}, func() error {
		if seq <= r.last {
			return fmt.Errorf("%d after %d", seq, r.last)
		}
		n++
		r.last, r.keys = seq, append(r.keys, key)
		return nil
	})
	if err == nil && n == 7 {
		return r.read(ctx)
	}
	return err
}

func keys(changes ...*ledgerfeedv1.Change) []string {
	var all []string
	for _, c := range changes {
		all = append(all, fmt.Sprintf("%s/%s/%s/%d", c.GetRealmId(), c.GetEntity(), c.GetEntityId(), c.GetVersion()))
	}
	return all
}

func write(t *testing.T, s *postgres.Sink, changes ...*ledgerfeedv1.Change) {
	t.Helper()
	require.NoError(t, s.Write(t.Context(), changes))
}

func TestLog_HasEachVersionTakenOnce(t *testing.T) {
	url := devtest.Postgres(t)
	s := open(t, postgres.Options{URL: secret.String(url)})
	first, second, gone := sinktest.Change("7", 1, `{"n":1}`), sinktest.Change("7", 2, `{"n":2}`), sinktest.Tombstone("7", 3)
	write(t, s, second)
	write(t, s, first)
	write(t, s, second, sinktest.Change("8", 1, `{}`)) // again, as after a crash
	write(t, s, gone)
	r := newTail(t, url)
	require.NoError(t, r.read(t.Context()))
	require.Empty(t, cmp.Diff(keys(second, sinktest.Change("8", 1, `{}`), gone), r.keys))
	require.EqualValues(t, 3, r.last, "no number is left out")
}

// The rows of a transaction that took its numbers first may become visible last.
// A reader that asks for numbers above its last one would never see them.
func TestLog_WaitsForTransactionsThatAreOpen(t *testing.T) {
	url := devtest.Postgres(t)
	s := open(t, postgres.Options{URL: secret.String(url)})
	a, b, c := sinktest.Change("a", 1, `{}`), sinktest.Change("b", 1, `{}`), sinktest.Change("c", 2, `{}`)
	write(t, s, sinktest.Change("c", 1, `{}`))
	r := newTail(t, url)
	require.NoError(t, r.read(t.Context()))
	require.Len(t, r.keys, 1)

	// It takes a number for a, then waits for c.
	holder, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer holder.Close(context.WithoutCancel(t.Context()))
	tx, err := holder.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `select from ledgerfeed.entity where id = 'c' for update`)
	require.NoError(t, err)
	var g errgroup.Group
	g.Go(func() error { return s.Write(t.Context(), []*ledgerfeedv1.Change{a, c}) })
	require.Eventually(t, func() bool {
		return query[int64](t, url, `select last_value from ledgerfeed.change_seq_seq`) == 2
	}, 20*time.Second, 10*time.Millisecond)

	write(t, s, b)
	require.EqualValues(t, 3, query[int64](t, url, `select max(seq) from ledgerfeed.change`), "b is visible and has the higher number")
	require.EqualValues(t, 1, query[int64](t, url, `select ledgerfeed.change_settled()`))
	require.NoError(t, r.read(t.Context()))
	require.Len(t, r.keys, 1, "not b before a")

	require.NoError(t, tx.Rollback(t.Context()))
	require.NoError(t, g.Wait())
	require.NoError(t, r.read(t.Context()))
	require.Empty(t, cmp.Diff(keys(a, b, c), r.keys[1:]))
}

// Numbers of 32 bits and more, and those that a rollback left unused.
func TestLog_GoesOnAtLargeNumbers(t *testing.T) {
	url := devtest.Postgres(t)
	s := open(t, postgres.Options{URL: secret.String(url)})
	r := newTail(t, url)
	for i, start := range []int64{1<<31 - 2, 1<<32 - 2, 1<<40 - 2} {
		exec(t, url, fmt.Sprintf(`alter table ledgerfeed.change alter seq restart with %d`, start))
		tx, err := newTail(t, url).conn.Begin(t.Context())
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), `select ledgerfeed.change_begin()`)
		require.NoError(t, err)
		write(t, s, sinktest.Change("7", int64(i), `{}`), sinktest.Change("8", int64(i), `{}`), sinktest.Change("9", int64(i), `{}`))
		require.Equal(t, start-1, query[int64](t, url, `select ledgerfeed.change_settled()`))
		require.NoError(t, tx.Rollback(t.Context()))
		require.Equal(t, start+2, query[int64](t, url, `select ledgerfeed.change_settled()`))
		require.NoError(t, r.read(t.Context()))
		require.Len(t, r.keys, 3*(i+1))
	}
}

// A tail beside many writers of the same entities sees every row, once, in the
// order of the numbers.
func TestLog_TailBesideManyWriters(t *testing.T) {
	const writers, rounds, size = 8, 30, 5
	url := devtest.Postgres(t)
	s := open(t, postgres.Options{URL: secret.String(url)})
	r := newTail(t, url)
	ctx, cancel := context.WithCancel(t.Context())
	var g, tailing errgroup.Group
	tailing.Go(func() error {
		for ctx.Err() == nil {
			if err := r.read(t.Context()); err != nil {
				return err
			}
		}
		return nil
	})
	for w := range writers {
		g.Go(func() error {
			for n := range rounds {
				var batch []*ledgerfeedv1.Change
				for i := range size {
					batch = append(batch, sinktest.Change(fmt.Sprint((w+i*n)%12), int64(n), `{}`))
				}
				if err := s.Write(t.Context(), distinct(batch)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, g.Wait())
	cancel()
	require.NoError(t, tailing.Wait())
	require.NoError(t, r.read(t.Context()))
	rows, err := r.conn.Query(t.Context(), `select key from ledgerfeed.change order by seq`)
	require.NoError(t, err)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Greater(t, len(all), 12)
	require.Empty(t, cmp.Diff(all, r.keys))
	requireSoundLog(t, postgres.Options{URL: secret.String(url)})
}

// distinct leaves one change of each entity: a batch never has two.
func distinct(changes []*ledgerfeedv1.Change) []*ledgerfeedv1.Change {
	seen := map[string]bool{}
	return slices.DeleteFunc(changes, func(c *ledgerfeedv1.Change) bool {
		known := seen[c.GetEntityId()]
		seen[c.GetEntityId()] = true
		return known
	})
}

// An older snapshot than the open transactions that were looked at misses rows.
func TestLog_RefusesAnOldSnapshot(t *testing.T) {
	url := devtest.Postgres(t)
	open(t, postgres.Options{URL: secret.String(url)})
	tx, err := newTail(t, url).conn.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `select ledgerfeed.change_after(0)`)
	require.ErrorContains(t, err, "READ COMMITTED")
}

// A reader needs the right to read the table and no other.
func TestLog_IsReadByARoleThatMayOnlyRead(t *testing.T) {
	url := devtest.Postgres(t)
	s := open(t, postgres.Options{URL: secret.String(url)})
	write(t, s, sinktest.Change("7", 1, `{}`))
	exec(t, url, `create role reader login; grant usage on schema ledgerfeed to reader; grant select on ledgerfeed.change to reader`)
	t.Cleanup(func() { exec(t, url, `drop owned by reader; drop role reader`) })
	theirs := strings.Replace(url, "postgres@", "reader@", 1)
	require.EqualValues(t, 1, query[int](t, theirs, `select count(*) from ledgerfeed.change_after(0)`))
}

func TestLog_IsTrimmed(t *testing.T) {
	url := devtest.Postgres(t)
	s := open(t, postgres.Options{URL: secret.String(url)})
	for i := range int64(3) {
		var batch []*ledgerfeedv1.Change
		for id := range 900 {
			batch = append(batch, sinktest.Change(fmt.Sprint(id), i, `{}`))
		}
		write(t, s, batch...)
	}
	exec(t, url, `update ledgerfeed.change set written_at = now() - interval '2 hours' where seq <= 2600`)
	open(t, postgres.Options{URL: secret.String(url), KeepLog: time.Hour})
	require.Eventually(t, func() bool {
		return query[int](t, url, `select count(*) from ledgerfeed.change where seq <= 2600`) == 0
	}, 20*time.Second, 10*time.Millisecond)
	require.Equal(t, 100, query[int](t, url, `select count(*) from ledgerfeed.change`), "the rest is young enough")
	require.Equal(t, 900, query[int](t, url, `select count(*) from ledgerfeed.entity`))
}

// firstRelease is the state of a database that only the first migration was
// applied to, with rows in it.
func firstRelease(t *testing.T) (url string) {
	t.Helper()
	url = devtest.Postgres(t)
	text, err := os.ReadFile("migrations/00001_entity.sql")
	require.NoError(t, err)
	exec(t, url, `create schema ledgerfeed;`+strings.ReplaceAll(string(text), "{{table}}", "ledgerfeed.entity")+`;
		create table ledgerfeed.entity_migrations (id integer primary key generated by default as identity,
			version_id bigint not null, is_applied boolean not null, tstamp timestamp not null default now());
		insert into ledgerfeed.entity_migrations (version_id, is_applied) values (0, true), (1, true);
		insert into ledgerfeed.entity select '1', t, i::text, 1700000001000001, '1', now(), false, 'update', '{"Memo":"kept"}', 'cdc', now(), '', ''
			from unnest(array['Invoice', 'Bill', 'x y']) as t, generate_series(1, 50) as i`)
	return url
}

func TestOpen_MigratesADatabaseOfTheFirstRelease(t *testing.T) {
	for name, o := range map[string]postgres.Options{"one table": {}, "a table per entity": {PerEntity: true}} {
		t.Run(name, func(t *testing.T) {
			url := firstRelease(t)
			before := query[string](t, url, `select md5(string_agg((to_jsonb(e) - array['content_hash', 'read_at', 'sanitized'])::text, '' order by entity, id)) from ledgerfeed.entity as e`)
			o.URL = secret.String(url)
			s := open(t, o)
			require.Equal(t, before, query[string](t, url, `select md5(string_agg((to_jsonb(e) - array['content_hash', 'read_at', 'sanitized'])::text, '' order by entity, id)) from ledgerfeed.entity as e`))
			write(t, s, sinktest.Change("1", 1, `{}`), sinktest.Change("2", 2, `{}`), sinktest.Change("51", 1, `{}`))
			r := newTail(t, url)
			require.NoError(t, r.read(t.Context()))
			require.Empty(t, cmp.Diff(keys(sinktest.Change("2", 2, ``), sinktest.Change("51", 1, ``)), r.keys), "what is older is in the table")
			require.Equal(t, 151, query[int](t, url, `select count(*) from ledgerfeed.entity`))
		})
	}
}

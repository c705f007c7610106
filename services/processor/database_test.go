package processor_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/postgres"
)

// pgSink is a PostgreSQL whose tables belong to a role without other rights.
type pgSink struct {
	t          testing.TB
	admin, url string
	name, role string
	table      *postgres.Sink
	options    postgres.Options
	processor  running
	logged     *observer.ObservedLogs
	records    []qbosim.Ref
}

func newPGSink(t testing.TB) *pgSink {
	t.Helper()
	d := &pgSink{t: t, admin: devtest.Postgres(t)}
	u, err := url.Parse(d.admin)
	require.NoError(t, err)
	d.name = strings.TrimPrefix(u.Path, "/")
	d.role = "feed_" + d.name
	u.User = url.User(d.role)
	d.url = u.String()
	d.exec(`create role $role login; create schema ledgerfeed authorization $role`)
	return d
}

// exec is done by an administrator, in a transaction that writes whatever is set. $db and
// $role are those of the sink.
func (d *pgSink) exec(sql string) {
	d.t.Helper()
	ctx := context.WithoutCancel(d.t.Context())
	conn, err := pgx.Connect(ctx, d.admin)
	require.NoError(d.t, err)
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "set transaction read write; "+strings.NewReplacer("$db", d.name, "$role", d.role).Replace(sql))
	require.NoError(d.t, err)
}

func (d *pgSink) count(sql string) (n int64) {
	d.t.Helper()
	conn, err := pgx.Connect(d.t.Context(), d.admin)
	require.NoError(d.t, err)
	defer conn.Close(d.t.Context())
	require.NoError(d.t, conn.QueryRow(d.t.Context(), sql).Scan(&n))
	return n
}

// reconnect ends the connections of the sink: what a role is set to counts for new ones.
func (d *pgSink) reconnect() {
	d.t.Helper()
	d.exec(`select pg_terminate_backend(pid) from pg_stat_activity where usename = '$role'`)
}

const slow = `create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(10); return new; end $$;
	create trigger slow before insert on ledgerfeed.entity for each row execute function slow();`

const fullDisk = `create function full_disk() returns trigger language plpgsql as $$ begin
		raise exception using errcode = '53100', message = 'could not extend file "base/5/16397": No space left on device'; end $$;
	create trigger full_disk before insert on ledgerfeed.entity for each row execute function full_disk();`

// What a database does to a sink while the processor runs: nothing of it costs a record,
// the reason is shown everywhere, and writes go on by themselves once it is over.
func TestProcessor_WaitsForADatabaseThatTakesNoWrites(t *testing.T) {
	for name, row := range map[string]struct{ begin, end, reason, says string }{
		"read-only": {
			begin: `alter database $db set default_transaction_read_only = on`, end: `alter database $db set default_transaction_read_only = off`,
			reason: "read-only", says: "the server is read-only",
		},
		"full disk": {
			begin: fullDisk, end: `drop trigger full_disk on ledgerfeed.entity`,
			reason: "SQLSTATE 53100", says: "No space left on device",
		},
		"no connection left": {
			begin: `alter role $role connection limit 0`, end: `alter role $role connection limit -1`,
			reason: "SQLSTATE 53300", says: "too many connections for role",
		},
		"statement timeout": {
			begin: slow + `alter role $role set statement_timeout = '50ms'`, end: `drop trigger slow on ledgerfeed.entity`,
			reason: "SQLSTATE 57014", says: "canceling statement due to statement timeout",
		},
		"a table of another owner": {
			begin: `alter table ledgerfeed.entity owner to postgres`, end: `alter table ledgerfeed.entity owner to $role`,
			reason: "SQLSTATE 42501", says: "permission denied for table entity",
		},
		"a schema of another owner": {
			begin: `alter schema ledgerfeed owner to postgres`, end: `alter schema ledgerfeed owner to $role`,
			reason: "SQLSTATE 42501", says: "permission denied for schema ledgerfeed",
		},
		"a role that may not log in": {
			begin: `alter role $role nologin`, end: `alter role $role login`,
			reason: "SQLSTATE 28000", says: "is not permitted to log in",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, d := setup(t), newPGSink(t)
			d.start(b)
			d.create(b, 10)
			b.settle(d.processor)

			d.exec(row.begin)
			d.reconnect()
			d.create(b, 30)
			require.Eventually(t, func() bool { return strings.Contains(d.processor.Health()["sink pg"], row.says) }, patient, 10*time.Millisecond)
			require.Eventually(t, func() bool {
				all, err := b.store.SinkTroubles(t.Context(), "pg")
				return err == nil && len(all) == 1 && strings.Contains(all[0].Error, row.says)
			}, patient, 10*time.Millisecond)
			require.Eventually(t, func() bool { return failingBecause(t, b.registry, "pg") == row.reason }, patient, 10*time.Millisecond)
			down := d.logged.FilterMessage("sink is down").FilterFieldKey("error").All()
			require.NotEmpty(t, down)
			require.Equal(t, row.reason, down[len(down)-1].ContextMap()["reason"])
			require.Contains(t, down[len(down)-1].ContextMap()["error"], row.says)
			require.ErrorContains(t, postgres.Probe(t.Context(), d.options), row.says, "what doctor says")
			t.Logf("log %v, readiness %q", down[len(down)-1].ContextMap(), d.processor.Health()["sink pg"])

			d.exec(row.end)
			b.settle(d.processor)
			require.Empty(t, d.processor.Health())
			require.Zero(t, d.processor.Stats().Dead)
			d.requireAll(b)
			require.NoError(t, postgres.Probe(t.Context(), d.options))
		})
	}
}

// Documents that PostgreSQL cannot hold as they are cost the others nothing: those with a
// character that jsonb has not are stored without it, and counted; what cannot be stored at
// all becomes a dead letter that says why. The sink is never down for them.
func TestProcessor_DocumentsThatPostgreSQLCannotHold(t *testing.T) {
	t.Parallel()
	b, d := setup(t), newPGSink(t)
	d.start(b)
	deep := any("bottom")
	for range 9000 {
		deep = []any{deep}
	}
	refused := map[qbosim.Ref]string{}
	for range 4 {
		for range 5 {
			d.records = append(d.records, b.create("Invoice", map[string]any{"PrivateNote": "good"}),
				b.create("Customer", map[string]any{"DisplayName": "nul\x00here", "Suffix": fmt.Sprint(len(d.records))}))
		}
		d.records = append(d.records, b.create("Invoice", map[string]any{"Nested": deep}))
		refused[b.create("Invoice", map[string]any{"Amount": json.Number("1e200000")})] = "SQLSTATE 22003"
		b.publish(b.webhooks()...)
		b.settle(d.processor)
	}
	require.Zero(t, d.logged.FilterMessage("sink is down").Len())
	d.requireAll(b)
	dead := b.dead()
	require.Len(t, dead, len(refused))
	for _, l := range dead {
		e := l.Envelope.GetEvents()[0]
		want, ok := refused[qbosim.Ref{Realm: l.RealmID, Entity: e.GetEntity(), ID: e.GetEntityId()}]
		require.True(t, ok, "%v", l)
		require.Equal(t, stream.ReasonSinkRefused, l.Reason)
		require.Contains(t, l.Detail, want)
	}
	for ref := range refused {
		require.NotEmpty(t, b.a.of(ref), "the other sink has it")
	}
	sanitized := d.count(`select count(*) from ledgerfeed.entity where sanitized`)
	require.GreaterOrEqual(t, sanitized, int64(20), "and the invoices that name the customers")
	require.Equal(t, sanitized, d.table.Sanitized())
	require.Eventually(t, func() bool {
		n, err := b.store.Sanitized(t.Context(), "pg")
		return err == nil && n == sanitized
	}, patient, 10*time.Millisecond)
}

// start runs a processor with the database and another sink.
func (d *pgSink) start(b *bundle) {
	d.t.Helper()
	d.options = postgres.Options{Name: "pg", URL: secret.String(d.url)}
	var err error
	d.table, err = postgres.Open(d.t.Context(), d.options)
	require.NoError(d.t, err)
	d.t.Cleanup(func() { _ = d.table.Close() })
	core, logged := observer.New(zap.InfoLevel)
	o := b.options()
	o.Logger, o.Sinks = zap.New(core), []processor.Sink{b.a, d.table}
	d.processor, d.logged = b.run(o), logged
}

// create has QuickBooks tell of new records.
func (d *pgSink) create(b *bundle, n int) {
	d.t.Helper()
	for i := range n {
		d.records = append(d.records, b.create("Invoice", map[string]any{"DocNumber": fmt.Sprint(i)}))
	}
	b.publish(b.webhooks()...)
}

// requireAll looks for each record in both sinks.
func (d *pgSink) requireAll(b *bundle) {
	d.t.Helper()
	held, err := d.table.Snapshot(d.t.Context())
	require.NoError(d.t, err)
	for _, ref := range d.records {
		require.NotEmpty(d.t, b.a.of(ref), "%v", ref)
		require.Equal(d.t, latest(d.t, b, ref).Version, held[sink.Ref{Realm: ref.Realm, Entity: ref.Entity, ID: ref.ID}].Version, "%v", ref)
	}
}

// failingBecause is the reason in the metric of sinks that are down; "" if there is none.
func failingBecause(t testing.TB, registry *prometheus.Registry, sink string) string {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() != "ledgerfeed_processor_sink_failing" {
			continue
		}
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["sink"] == sink && m.GetGauge().GetValue() == 1 {
				return labels["reason"]
			}
		}
	}
	return ""
}

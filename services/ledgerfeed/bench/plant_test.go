package bench_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/postgres"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

const (
	sinkName    = "postgres"
	perEnvelope = 10 // events of a backlog
)

// bookKey encrypts the tokens of companies that do not exist.
var bookKey = "bench:" + base64.StdEncoding.EncodeToString(make([]byte, 32))

// plant is what the consumers stand on: a nats-server, a redis-server, a
// PostgreSQL and a QuickBooks, each a process of its own.
type plant struct {
	*bench
	broker          *broker
	books           *books
	redis, database string

	conn        *stream.Conn // to publish by
	state       *state.Store
	connections *connection.Store
	db          *pgxpool.Pool
	jobs        *river.Client[pgx.Tx]
	realms      []string
	records     int // that were ever changed: each is another one
	turns       int // envelopes so far: each is of the next realm
}

func (b *bench) plant() *plant {
	b.t.Helper()
	t := b.t
	p := &plant{bench: b, broker: startBroker(t, relaxed), books: startBooks(t), redis: devtest.RealRedis(t), database: devtest.Postgres(t)}
	// The limits are of a realm: with few of them they would be what is measured.
	p.realms = realmsOf(12)
	if smoke() {
		p.realms = realmsOf(1)
	}
	cfg := stream.DefaultConfig()
	cfg.URL, cfg.MonitorURL, cfg.Profile = p.broker.url, p.broker.monitor, p.broker.profile
	var err error
	p.conn, err = stream.Connect(t.Context(), stream.Options{Config: cfg, Name: "bench"})
	require.NoError(t, err)
	t.Cleanup(p.conn.Close)
	p.state, err = state.Open(t.Context(), state.Options{Config: state.Config{URL: secret.String(p.redis)}})
	require.NoError(t, err)
	t.Cleanup(func() { p.state.Close() })
	p.connections, err = openConnections(p.state)
	require.NoError(t, err)
	p.migrate()
	return p
}

// realmsOf are so many of each group of partitions: how evenly a few companies
// happen to fall on the replicas is not the question.
func realmsOf(each int) (realms []string) {
	var have [stream.Groups]int
	for i := 1; len(realms) < each*stream.Groups; i++ {
		realm := fmt.Sprintf("93414530%08d", i)
		if g := envelope.Partition(realm) % stream.Groups; have[g] < each {
			have[g]++
			realms = append(realms, realm)
		}
	}
	return realms
}

// openConnections is for tokens that are not refreshed.
func openConnections(s *state.Store) (*connection.Store, error) {
	oauth, err := qbo.NewOAuth(qbo.OAuthOptions{ClientID: app, ClientSecret: "secret", TokenURL: "http://127.0.0.1:1"})
	if err != nil {
		return nil, err
	}
	return connection.New(connection.Options{State: s, Config: connection.Config{Keys: []secret.String{secret.String(bookKey)}}, Refresher: oauth})
}

// migrate makes the tables of the sink and of River.
func (p *plant) migrate() {
	p.t.Helper()
	ctx := p.t.Context()
	sink, err := postgres.Open(ctx, postgres.Options{Name: sinkName, URL: secret.String(p.database)})
	require.NoError(p.t, err)
	require.NoError(p.t, sink.Close())
	p.db, err = pgxpool.New(ctx, p.database)
	require.NoError(p.t, err)
	p.t.Cleanup(p.db.Close)
	driver := riverpgxv5.New(p.db)
	migrator, err := rivermigrate.New(driver, nil)
	require.NoError(p.t, err)
	_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	require.NoError(p.t, err)
	p.jobs, err = river.NewClient(driver, &river.Config{})
	require.NoError(p.t, err)
}

// clear removes what was before: nobody pays for somebody else's marks, rows or
// messages.
func (p *plant) clear() {
	p.t.Helper()
	ctx := p.t.Context()
	for _, name := range []string{stream.EventStream, stream.RetryStream, stream.DeadStream} {
		s, err := p.broker.js.Stream(ctx, name)
		require.NoError(p.t, err)
		names := s.ConsumerNames(ctx)
		for consumer := range names.Name() {
			require.NoError(p.t, s.DeleteConsumer(ctx, consumer))
		}
		require.NoError(p.t, names.Err())
		require.NoError(p.t, s.Purge(ctx))
	}
	require.NoError(p.t, p.state.Redis().FlushDB(ctx).Err())
	// A new sink would have all realms loaded.
	_, err := p.state.SetSinks(ctx, []string{sinkName})
	require.NoError(p.t, err)
	var tables string
	require.NoError(p.t, p.db.QueryRow(ctx, `SELECT string_agg(format('%I.%I', schemaname, tablename), ', ') FROM pg_tables
		WHERE schemaname = 'ledgerfeed' AND tablename NOT LIKE '%migrations' OR tablename = 'river_job'`).Scan(&tables))
	_, err = p.db.Exec(ctx, "TRUNCATE "+tables)
	require.NoError(p.t, err)
}

// connect connects the realms, each with a token that lasts.
func (p *plant) connect() {
	p.t.Helper()
	connecting, ctx := errgroup.WithContext(p.t.Context())
	connecting.SetLimit(32)
	for _, realm := range p.realms {
		connecting.Go(func() error { return p.connections.Connect(ctx, realm, app, lasting("access", "refresh")) })
	}
	require.NoError(p.t, connecting.Wait())
}

func lasting(access, refresh secret.String) qbo.Token {
	const day = 24 * time.Hour
	now := time.Now()
	return qbo.Token{Access: access, Refresh: refresh, AccessExpires: now.Add(day), RefreshExpires: now.Add(100 * day), RefreshHardExpires: now.Add(1000 * day)}
}

// envelopes are n changes, each of another invoice, realm after realm.
func (p *plant) envelopes(n int) (envs []*ledgerfeedv1.Envelope) {
	for n > 0 {
		size := min(n, perEnvelope)
		envs = append(envs, p.envelope(size))
		n -= size
	}
	return envs
}

func (p *plant) envelope(size int) *ledgerfeedv1.Envelope {
	now := time.Now()
	events := make([]*ledgerfeedv1.Event, size)
	for i := range events {
		p.records++
		events[i] = changed(fmt.Sprint(p.records), now)
	}
	p.turns++
	return enclose(p.realms[p.turns%len(p.realms)], events, now)[0]
}

// changed is what a webhook tells of an invoice.
func changed(id string, at time.Time) *ledgerfeedv1.Event {
	return &ledgerfeedv1.Event{
		Id: "88cd52aa-33b6-4351-9aa4-47572edbd068-" + id, Entity: "Invoice", EntityId: id, Operation: ledgerfeedv1.Operation_OPERATION_UPDATE,
		OperationName: "updated", OccurredAt: timestamppb.New(at.Truncate(time.Millisecond)),
	}
}

func enclose(realm string, events []*ledgerfeedv1.Event, at time.Time) []*ledgerfeedv1.Envelope {
	return envelope.New(ledgerfeedv1.Source_SOURCE_WEBHOOK, realm, "bench", events, envelope.Meta{App: app, ReceivedAt: at})
}

// crew are the processes that consume in a window, and their queue.
type crew struct {
	*plant
	name    string
	members []*child
}

// crew starts them and holds them back: until release they get nothing, so that
// no start is measured.
func (p *plant) crew(name string, replicas int, settings ...string) *crew {
	p.t.Helper()
	c := &crew{plant: p, name: name}
	for range replicas {
		c.members = append(c.members, p.consumer(name, settings))
	}
	if name != "river" {
		c.hold()
	}
	return c
}

func (p *plant) consumer(name string, settings []string) *child {
	p.t.Helper()
	switch name {
	case "ledgerfeed":
		return startChild(p.t, "ledgerfeed", append([]string{
			"BENCH_BINARY=" + p.binary, "LEDGERFEED_ADMIN_LISTEN=" + freeAddress(p.t),
			"LEDGERFEED_NATS_URL=" + p.broker.url, "LEDGERFEED_NATS_MONITOR_URL=" + p.broker.monitor, "LEDGERFEED_NATS_PROFILE=" + string(p.broker.profile),
			"LEDGERFEED_REDIS_URL=" + p.redis, "LEDGERFEED_CONNECTION_KEYS=" + bookKey,
			"LEDGERFEED_QBO_BASE_URL=" + p.books.url(), "LEDGERFEED_QBO_CLIENT_ID=" + app, "LEDGERFEED_QBO_CLIENT_SECRET=secret",
			"LEDGERFEED_PROCESSOR_SINKS=postgres:" + p.database,
		}, settings...)...)
	case "river":
		name = "river-processor"
	default:
		name = "bare-processor"
	}
	return startChild(p.t, name, "BENCH_NATS="+p.broker.url, "BENCH_REDIS="+p.redis, "BENCH_POSTGRES="+p.database,
		"BENCH_API="+p.books.url(), "BENCH_SAMPLE="+p.books.sample)
}

func (p *plant) events() jetstream.Stream {
	p.t.Helper()
	s, err := p.broker.js.Stream(p.t.Context(), stream.EventStream)
	require.NoError(p.t, err)
	return s
}

func (p *plant) consumers() (all []*jetstream.ConsumerInfo) {
	p.t.Helper()
	infos := p.events().ListConsumers(p.t.Context())
	for info := range infos.Info() {
		all = append(all, info)
	}
	require.NoError(p.t, infos.Err())
	return all
}

// beat is how long replicas take at most until they know of each other and have
// settled who is the first for which partitions: they make their consumers once
// more then, which would end the pause of hold.
const beat = 4 * time.Second

func (c *crew) hold() {
	c.t.Helper()
	c.until(20*time.Second, "all pull", c.pulling)
	if len(c.members) > 1 {
		time.Sleep(beat)
		c.until(20*time.Second, "all pull", c.pulling)
	}
	for _, info := range c.consumers() {
		_, err := c.events().PauseConsumer(c.t.Context(), info.Name, time.Now().Add(time.Hour))
		require.NoError(c.t, err)
	}
}

// pulling reports whether all have asked all consumers for messages.
func (c *crew) pulling() bool {
	all := c.consumers()
	for _, info := range all {
		if info.NumWaiting < len(c.members) {
			return false
		}
	}
	return len(all) == 1 || len(all) == stream.Groups
}

// held reports whether nobody has got anything yet.
func (c *crew) held() bool {
	return c.name == "river" || !slices.ContainsFunc(c.consumers(), func(info *jetstream.ConsumerInfo) bool { return info.Delivered.Consumer > 0 })
}

// put puts envelopes into the queue of the crew.
func (c *crew) put(ctx context.Context, envs ...*ledgerfeedv1.Envelope) error {
	for chunk := range slices.Chunk(envs, 500) {
		if c.name != "river" {
			if err := c.conn.Publish(ctx, chunk...); err != nil {
				return err
			}
			continue
		}
		jobs := make([]river.InsertManyParams, len(chunk))
		for i, env := range chunk {
			data, err := envelope.Encode(env)
			if err != nil {
				return err
			}
			jobs[i].Args = changeJob{data}
		}
		if _, err := c.jobs.InsertManyFast(ctx, jobs); err != nil {
			return err
		}
	}
	return nil
}

// release lets them begin, and says when that was.
func (c *crew) release() (began time.Time) {
	c.t.Helper()
	if c.name == "river" {
		began = time.Now()
		for _, m := range c.members {
			require.NoError(c.t, m.begin())
		}
		return began
	}
	// By the end of the pause, not by ending it: the broker wakes a consumer only
	// then.
	began = time.Now().Add(200 * time.Millisecond)
	for _, info := range c.consumers() {
		_, err := c.events().PauseConsumer(c.t.Context(), info.Name, began)
		require.NoError(c.t, err)
	}
	time.Sleep(time.Until(began))
	return began
}

// settle waits until nothing is left in the queue.
func (c *crew) settle(within time.Duration) {
	c.t.Helper()
	c.until(within, "the queue is empty", func() bool { return c.left() == 0 })
}

// left is how many messages there are; of jobs it says only whether there are any.
func (c *crew) left() (n int) {
	c.t.Helper()
	ctx := c.t.Context()
	if c.name == "river" {
		require.NoError(c.t, c.db.QueryRow(ctx, "SELECT count(*) FROM (SELECT FROM river_job WHERE state <> 'completed' LIMIT 1) AS open").Scan(&n))
		return n
	}
	for _, name := range []string{stream.EventStream, stream.RetryStream} {
		s, err := c.broker.js.Stream(ctx, name)
		require.NoError(c.t, err)
		n += int(s.CachedInfo().State.Msgs)
	}
	return n
}

func (p *plant) until(within time.Duration, what string, so func() bool) {
	p.t.Helper()
	for end := time.Now().Add(within); !so(); time.Sleep(50 * time.Millisecond) {
		require.NoError(p.t, interrupted.Err(), "interrupted")
		require.True(p.t, time.Now().Before(end), "not within %s: %s", within, what)
	}
}

func (c *crew) used() (cpu time.Duration) {
	for _, m := range c.members {
		cpu += m.used()
	}
	return cpu
}

// stop ends them all at the same time: a drain takes its time.
func (c *crew) stop() {
	var stopping errgroup.Group
	for _, m := range c.members {
		stopping.Go(func() error { m.stop(); return nil })
	}
	_ = stopping.Wait()
}

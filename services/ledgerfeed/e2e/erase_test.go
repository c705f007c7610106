package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

// A company is erased while its webhooks arrive, it is scanned, and processors have its
// changes in hand. Afterwards nothing anywhere names it but the note that it was erased; the
// other company is untouched.
func TestErase_NothingIsLeftAndNothingComesBack(t *testing.T) {
	t.Parallel()
	address, broker, db, dir := devtest.RealRedis(t), devtest.NATS(t), devtest.Postgres(t), t.TempDir()
	file := filepath.Join(dir, "changes.jsonl")
	feed := startDev(t, dir, "--realms", "2", "--rate", "60", "--redis-url", address, "--nats-url", broker, "--reconcile-every", "1s", "--drop", "0.2",
		"--sink", "postgres:"+db, "--sink", "jsonl:"+file)
	feed.waitFor("ctrl-C stops")
	base := strings.TrimSpace(read(t, filepath.Join(dir, "realms")))
	erased, kept := base+"000", base+"001"
	l := leftovers{t: t, redis: address, broker: broker, db: db}
	require.Eventually(t, func() bool { return len(l.of(erased)) > 20 && len(l.of(kept)) > 20 }, time.Minute, 100*time.Millisecond)

	key := read(t, filepath.Join(dir, "encryption.key"))
	run := func(args ...string) (string, int) {
		cmd := exec.CommandContext(t.Context(), "ledgerfeed", args...)
		cmd.Dir = t.TempDir()
		cmd.Env = append(os.Environ(), "LEDGERFEED_REDIS_URL="+address, "LEDGERFEED_NATS_URL="+broker, "LEDGERFEED_NATS_PROFILE=dev",
			"LEDGERFEED_CONNECTION_KEYS="+strings.TrimSpace(key), "LEDGERFEED_QBO_BASE_URL="+feed.field("quickbooks"),
			"LEDGERFEED_QBO_TOKEN_URL="+feed.field("quickbooks")+"/oauth2/v1/tokens/bearer", "LEDGERFEED_QBO_REVOKE_URL="+feed.field("quickbooks")+"/v2/oauth2/tokens/revoke",
			"LEDGERFEED_QBO_CLIENT_ID=ledgerfeed-dev", "LEDGERFEED_QBO_CLIENT_SECRET=ledgerfeed-dev-secret",
			"LEDGERFEED_PROCESSOR_SINKS=postgres:"+db+",nats,jsonl:"+file, "LEDGERFEED_PROCESSOR_WRITE_TIMEOUT=2s")
		out, _ := cmd.CombinedOutput() // the exit code says how it ended
		return string(out), cmd.ProcessState.ExitCode()
	}
	out, code := run("realm", "erase", erased, "--sinks", "--yes")
	require.Equal(t, 1, code)
	require.Contains(t, out, "disconnect it first")
	before := l.of(erased)
	out, code = run("realm", "erase", erased, "--sinks", "--force", "--dry-run")
	require.Zero(t, code, out)
	require.Contains(t, out, "would erase realm "+erased)
	require.Regexp(t, `sink postgres entity +[1-9]`, out)
	require.GreaterOrEqual(t, len(l.of(erased)), len(before)/2, "a dry run deletes nothing")

	out, code = run("realm", "erase", erased, "--sinks", "--force", "--yes")
	require.Zero(t, code, out)
	require.Contains(t, out, "sink jsonl (jsonl):", "a processor holds the file")
	require.Contains(t, out, "backups of Redis")
	clean := func(after string) {
		t.Helper()
		require.Empty(t, l.of(erased), "after %s", after)
	}
	clean("the erasure")
	delivered := len(l.of(kept))
	require.Eventually(t, func() bool { return len(l.of(kept)) > delivered }, time.Minute, 100*time.Millisecond, "the other company goes on")
	require.Eventually(t, func() bool { return len(l.of(erased)) == 0 }, time.Minute, 50*time.Millisecond)
	// Webhooks that still come, an unknown kind and a merge among them, leave nothing.
	body := filepath.Join(dir, "body.json")
	write(t, body, fmt.Sprintf(`{"eventNotifications":[{"realmId":%q,"dataChangeEvent":{"entities":[
		{"name":"Invoice","id":"1","operation":"Update","lastUpdated":"2026-11-30T10:00:00Z"},{"name":"Spaceship","id":"1","operation":"Create","lastUpdated":"2026-11-30T10:00:00Z"},
		{"name":"Invoice","id":"2","operation":"Delete","lastUpdated":"2026-11-30T10:00:00Z"},{"name":"Customer","id":"3","operation":"Merge","deletedId":"4","lastUpdated":"2026-11-30T10:00:00Z"}]}}]}`, erased))
	for range 3 {
		out, code = run("send", "--url", feed.field("ingress"), "--token", "ledgerfeed-dev-verifier", body)
		require.Zero(t, code, out)
	}
	require.Eventually(t, func() bool { return l.queued(erased) == 0 }, time.Minute, 20*time.Millisecond, "its webhooks are dropped, not kept for later")
	clean("webhooks")

	// Asked for, it stays away.
	_, code = run("scan", "start", "--realm", erased, "--yes")
	require.NotZero(t, code)
	out, code = run("realm", "erase", erased, "--sinks", "--yes")
	require.Zero(t, code, out)
	clean("a second erasure")
	store := redis.NewClient(must(redis.ParseURL(address)))
	defer store.Close()
	require.Equal(t, "erased", store.HGet(t.Context(), "lf:1:conn:{"+erased+"}", "state").Val())
	out, code = run("actions", "ls", "--json")
	require.Zero(t, code, out)
	recorded := 0
	for line := range strings.Lines(out) {
		if strings.Contains(line, `"what":"realm erase"`) && strings.Contains(line, erased) && strings.Contains(line, `"outcome":"done"`) {
			recorded++
		}
	}
	require.Equal(t, 2, recorded, out)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// leftovers looks for a company in all keys, streams and tables there are.
type leftovers struct {
	t                 *testing.T
	redis, broker, db string
}

// of names everything that holds the company's id, but for the note of its erasure and the
// log of actions.
func (l leftovers) of(realm string) []string {
	l.t.Helper()
	return append(append(l.inRedis(realm), l.onStreams(realm)...), l.inTables(realm)...)
}

func (l leftovers) inRedis(realm string) (found []string) {
	l.t.Helper()
	ctx := l.t.Context()
	db := redis.NewClient(must(redis.ParseURL(l.redis)))
	defer db.Close()
	keys, err := db.Keys(ctx, "*").Result()
	require.NoError(l.t, err)
	for _, key := range keys {
		if key == "lf:1:conn:{"+realm+"}" && db.HGet(ctx, key, "state").Val() == "erased" {
			continue
		}
		var text []string
		switch db.Type(ctx, key).Val() {
		case "hash":
			for field, value := range db.HGetAll(ctx, key).Val() {
				text = append(text, field+" "+value)
			}
		case "zset":
			text = db.ZRange(ctx, key, 0, -1).Val()
		case "set":
			text = db.SMembers(ctx, key).Val()
		case "list":
			text = db.LRange(ctx, key, 0, -1).Val()
		case "string":
			text = []string{db.Get(ctx, key).Val()}
		}
		if strings.Contains(key, realm) || strings.Contains(strings.Join(text, "\n"), realm) {
			found = append(found, "redis "+key)
		}
	}
	return found
}

func (l leftovers) onStreams(realm string) (found []string) {
	l.t.Helper()
	ctx := l.t.Context()
	nc, err := nats.Connect(l.broker)
	require.NoError(l.t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(l.t, err)
	for info := range js.ListStreams(ctx).Info() {
		if name := info.Config.Name; name == "LF_EVENTS" || name == "LF_RETRY" || name == stream.ActionStream {
			continue // webhooks go on to arrive; the processors drop them
		}
		s, err := js.Stream(ctx, info.Config.Name)
		require.NoError(l.t, err)
		state := s.CachedInfo().State
		for seq := state.FirstSeq; seq <= state.LastSeq; seq++ {
			m, err := s.GetMsg(ctx, seq)
			if err == nil && (strings.Contains(m.Subject, realm) || strings.Contains(string(m.Data), realm) || strings.Contains(fmt.Sprint(m.Header), realm)) {
				found = append(found, fmt.Sprint(info.Config.Name, " ", seq))
			}
		}
	}
	return found
}

// queued is how many webhooks and retries of a company wait.
func (l leftovers) queued(realm string) (n uint64) {
	l.t.Helper()
	nc, err := nats.Connect(l.broker)
	require.NoError(l.t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(l.t, err)
	for name, subject := range map[string]string{"LF_EVENTS": "lf.event.*." + realm, "LF_RETRY": "lf.retry.*.*." + realm} {
		s, err := js.Stream(l.t.Context(), name)
		require.NoError(l.t, err)
		info, err := s.Info(l.t.Context(), jetstream.WithSubjectFilter(subject))
		require.NoError(l.t, err)
		for _, count := range info.State.Subjects {
			n += count
		}
	}
	return n
}

func (l leftovers) inTables(realm string) (found []string) {
	l.t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, l.db)
	require.NoError(l.t, err)
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, `SELECT quote_ident(table_schema) || '.' || quote_ident(table_name) FROM information_schema.tables
		WHERE table_schema NOT IN ('pg_catalog', 'information_schema') AND table_type = 'BASE TABLE'`)
	require.NoError(l.t, err)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(l.t, err)
	for _, table := range tables {
		var n int
		require.NoError(l.t, conn.QueryRow(ctx, `SELECT count(*) FROM `+table+` AS x WHERE x::text LIKE '%' || $1 || '%'`, realm).Scan(&n))
		for i := range n {
			found = append(found, fmt.Sprint(table, " ", i))
		}
	}
	return found
}

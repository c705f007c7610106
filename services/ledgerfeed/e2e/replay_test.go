package e2e_test

import (
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
)

// repair is a running feed at rest, whose database somebody will spoil.
type repair struct {
	t     *testing.T
	feed  *process
	conn  *pgx.Conn
	realm string
	env   []string
}

func newRepair(t *testing.T) *repair {
	t.Helper()
	dir, url := t.TempDir(), devtest.Postgres(t)
	args := []string{"--realms", "1", "--sink", "postgres:" + url}
	startDev(t, dir, append(args, "--rate", "600", "--for", "500ms", "--json")...).equal()
	r := &repair{t: t, feed: startDev(t, dir, append(args, "--rate", "0")...)}
	r.feed.waitFor("ctrl-C stops")
	sim := r.feed.printed("quickbooks")
	r.realm = strings.TrimSpace(read(t, filepath.Join(dir, "realms"))) + "000"
	r.env = []string{
		"LEDGERFEED_NATS_URL=" + r.feed.printed("nats"), "LEDGERFEED_REDIS_URL=" + r.feed.printed("redis"),
		"LEDGERFEED_CONNECTION_KEYS_FILE=" + filepath.Join(dir, "encryption.key"),
		"LEDGERFEED_QBO_BASE_URL=" + sim, "LEDGERFEED_QBO_TOKEN_URL=" + sim + "/oauth2/v1/tokens/bearer",
		"LEDGERFEED_QBO_CLIENT_ID=ledgerfeed-dev", "LEDGERFEED_QBO_CLIENT_SECRET=ledgerfeed-dev-secret",
	}
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, url)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close(ctx)) })
	r.conn = conn
	return r
}

func (r *repair) count(where string) (n int) {
	r.t.Helper()
	require.NoError(r.t, r.conn.QueryRow(context.Background(), "SELECT count(*) FROM ledgerfeed.entity WHERE "+where).Scan(&n))
	return n
}

func (r *repair) exec(sql string) {
	r.t.Helper()
	_, err := r.conn.Exec(context.Background(), sql)
	require.NoError(r.t, err)
}

// none waits until no row is so.
func (r *repair) none(where string) {
	r.t.Helper()
	require.Eventually(r.t, func() bool { return r.count(where) == 0 }, time.Minute, 20*time.Millisecond, where)
}

type replayed struct {
	Records, Deletions, Calls int
	HydrationCalls            int `json:"hydration_calls"`
	Notes                     []string
}

func (r *repair) replay(args ...string) replayed {
	r.t.Helper()
	cmd := exec.Command("ledgerfeed", append([]string{"replay", "--realm", r.realm, "--json", "--yes"}, args...)...)
	cmd.Env = append(cmd.Environ(), r.env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(r.t, err, "%s", stderr.String())
	var got replayed
	require.NoError(r.t, json.Unmarshal(out, &got))
	return got
}

// sink is the name that dev gave its sink, as the refusal of another one tells.
func (r *repair) sink() string {
	r.t.Helper()
	cmd := exec.Command("ledgerfeed", "replay", "--realm", r.realm, "--sink", "nobody")
	cmd.Env = append(cmd.Environ(), r.env...)
	out, err := cmd.CombinedOutput()
	require.Error(r.t, err)
	require.Equal(r.t, 2, cmd.ProcessState.ExitCode())
	_, name, ok := strings.Cut(strings.TrimSpace(string(out)), "there are: ")
	require.True(r.t, ok, "%s", out)
	return name
}

// What a person spoiled in the table comes back, though the marks say that the
// sink has every version.
func TestReplay_RepairsASinkThatHasEveryVersion(t *testing.T) {
	t.Parallel()
	r := newRepair(t)
	sink := r.sink()
	require.Positive(t, r.count("entity = 'Invoice' AND NOT deleted"))
	require.Positive(t, r.count("deleted"))
	r.exec(`UPDATE ledgerfeed.entity SET document = '{"spoiled": true}' WHERE NOT deleted`)
	r.exec(`DELETE FROM ledgerfeed.entity WHERE deleted`)

	plan := r.replay("--sink", sink, "--entity", "Invoice", "--dry-run")
	require.Equal(t, r.count("entity = 'Invoice'"), plan.Records)
	require.Equal(t, 2, plan.Calls, "a page and the deletions")
	require.Equal(t, 1, plan.HydrationCalls)
	r.none("NOT document ? 'spoiled'") // it did nothing

	lately := r.replay("--sink", sink, "--entity", "Invoice", "--since", "1h")
	require.LessOrEqual(t, lately.Records, plan.Records)
	require.Positive(t, lately.Records)
	r.none("entity = 'Invoice' AND document ? 'spoiled' AND last_updated > now() - interval '59 minutes'")
	require.Positive(t, r.count("entity <> 'Invoice' AND document ? 'spoiled'"), "nobody asked for them")

	all := r.replay("--sink", sink)
	require.Greater(t, all.Records, lately.Records)
	require.Positive(t, all.Deletions)
	require.NotEmpty(t, all.Notes, "what QuickBooks does not tell is said")
	r.none("document ? 'spoiled'")
	require.Eventually(t, func() bool { return r.count("deleted AND learned = 'replay'") == all.Deletions }, time.Minute, 20*time.Millisecond)

	// A deletion that nobody tells of any more is replayed by its id: the marks know it.
	var entity, id string
	require.NoError(t, r.conn.QueryRow(context.Background(), "SELECT entity, id FROM ledgerfeed.entity WHERE deleted LIMIT 1").Scan(&entity, &id))
	one := "entity = '" + entity + "' AND id = '" + id + "'"
	r.exec("DELETE FROM ledgerfeed.entity WHERE " + one)
	require.Equal(t, 1, r.replay("--sink", sink, "--entity", entity, "--id", id).Records)
	require.Eventually(t, func() bool { return r.count("deleted AND "+one) == 1 }, time.Minute, 20*time.Millisecond)

	r.feed.signal(syscall.SIGTERM)
	require.Zero(t, r.feed.code())
}

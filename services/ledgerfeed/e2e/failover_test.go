package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
)

// countRows is how many rows a query counts; -1 where the server does not answer.
func countRows(t *testing.T, url, sql string) (n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		return -1
	}
	defer conn.Close(t.Context())
	if conn.QueryRow(t.Context(), sql).Scan(&n) != nil {
		return -1
	}
	return n
}

// A failover of PostgreSQL under load: the new primary has rows within ten seconds, and
// everything in the end.
func TestDev_PostgresFailsOver(t *testing.T) {
	t.Parallel()
	pair := devtest.StartPostgresPair(t)
	endpoint := devtest.NewProxy(t, pair.Primary())
	at := func(server string) string { return "postgres://postgres@" + server + "/postgres?sslmode=disable" }
	p := startDev(t, t.TempDir(), "--for", "15s", "--rate", "30", "--seed", "1", "--json", "--sink", "postgres:"+at(endpoint.Addr()))
	const all = `select count(*) from ledgerfeed.entity`
	require.Eventually(t, func() bool { return countRows(t, at(pair.Primary()), all) > 50 }, patience, 50*time.Millisecond)

	pair.Failover()
	before := countRows(t, at(pair.Standby()), all)
	require.Positive(t, before)
	endpoint.Redirect(pair.Standby())
	require.Eventually(t, func() bool { return countRows(t, at(pair.Standby()), all) > before }, 10*time.Second, 20*time.Millisecond)
	require.Zero(t, p.equal().Dead)
}

// The feed works through PgBouncer in transaction mode with the URL that a user has.
func TestDev_PostgresBehindPgBouncer(t *testing.T) {
	t.Parallel()
	url := devtest.PgBouncer(t, devtest.Postgres(t))
	require.Zero(t, startDev(t, t.TempDir(), "--for", "3s", "--rate", "30", "--json", "--sink", "postgres:"+url).equal().Dead)
}

// A document of several megabytes gets from QuickBooks into the database.
func TestDev_ALargeDocument(t *testing.T) {
	t.Parallel()
	url := devtest.Postgres(t)
	dir := t.TempDir()
	p := startDev(t, dir, "--rate", "1", "--realms", "1", "--sink", "postgres:"+url)
	sim := p.field("quickbooks")
	realm := strings.TrimSpace(read(t, filepath.Join(dir, "realms"))) + "000"
	for i, size := range []int{100 << 10, 2 << 20, 5 << 20} {
		body, err := json.Marshal(map[string]any{
			"operation": "create", "realm": realm, "entity": "Invoice",
			"fields": map[string]any{"DocNumber": fmt.Sprint("large-", i), "PrivateNote": strings.Repeat("päge ", size/6)},
		})
		require.NoError(t, err)
		resp, err := http.Post(sim+"/sim/change", "application/json", bytes.NewReader(body))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusOK, resp.StatusCode)
		count := fmt.Sprintf(`select count(*) from ledgerfeed.entity where document->>'DocNumber' = 'large-%d' and length(document->>'PrivateNote') >= %d`, i, size/6*5)
		require.Eventually(t, func() bool { return countRows(t, url, count) == 1 }, patience, 50*time.Millisecond, "%d bytes", size)
	}
	require.NotContains(t, p.stdout.String()+p.stderr.String(), "dead-lettered")
}

package e2e_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// on runs a command on a Redis to its end.
func on(t *testing.T, redis string, args ...string) *process {
	t.Helper()
	p := start(t, append(args, "--redis-url", redis)...)
	<-p.ended
	return p
}

// rows are the JSON objects that a command printed.
func rows[T any](t *testing.T, p *process) []T {
	t.Helper()
	require.Zero(t, p.code(), "%s", p.stderr.String())
	var all []T
	for line := range strings.Lines(p.stdout.String()) {
		var one T
		require.NoError(t, json.Unmarshal([]byte(line), &one))
		all = append(all, one)
	}
	return all
}

type cursorRow struct {
	Realm, Entity       string
	Cursor, LastWebhook time.Time
	Operation           string
}

// A running feed is looked at, rewound, scanned and loaded again.
func TestScan_ARunningFeedDoesWhatItIsAsked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	startDev(t, dir, "--realms", "1", "--rate", "400", "--for", "500ms", "--json").equal()
	feed := startDev(t, dir, "--realms", "1", "--rate", "0")
	feed.waitFor("ctrl-C stops")
	redis := feed.printed("redis")
	realm := strings.TrimSpace(read(t, filepath.Join(dir, "realms"))) + "000"

	list := on(t, redis, "cursor", "ls")
	require.Zero(t, list.code())
	require.Regexp(t, `(?m)^REALM +OLDEST CURSOR +AGE +ENTITIES +LAST WEBHOOK +SCANNED +DUE +CHANGES/DAY +COMPANY$`, list.stdout.String())
	require.Contains(t, list.stdout.String(), realm)
	shown := on(t, redis, "cursor", "show", "--realm", realm)
	require.Zero(t, shown.code())
	require.Regexp(t, `(?m)^Invoice +20\d\d-\d\d-\d\d `, shown.stdout.String())
	before := rows[map[string]any](t, on(t, redis, "cursor", "show", "--realm", realm, "--json"))
	require.Greater(t, len(before), 25)
	webhooks := 0
	for _, row := range before {
		require.NotEmpty(t, row["cursor"], row)
		if row["last_webhook"] != nil {
			webhooks++
		}
	}
	require.Positive(t, webhooks)

	// It cannot be done by halves: what a scan needs is said before.
	plan := on(t, redis, "scan", "start", "--realm", realm, "--dry-run")
	require.Zero(t, plan.code())
	require.Contains(t, plan.stdout.String(), "would scan realm "+realm)
	require.Contains(t, on(t, redis, "scan", "status").stderr.String(), "no scan was asked for")
	unknown := on(t, redis, "scan", "start", "--realm", "1", "--yes")
	require.Equal(t, 1, unknown.code())
	require.Contains(t, unknown.stderr.String(), "not connected")

	scanned := rows[struct {
		State    string
		Progress state.JobProgress
	}](t, on(t, redis, "scan", "start", "--realm", realm, "--entity", "Invoice,TimeActivity", "--yes", "--json"))
	require.Len(t, scanned, 1)
	require.Equal(t, "done", scanned[0].State)
	require.Equal(t, 2, scanned[0].Progress.EntitiesDone)

	loaded := on(t, redis, "backfill", "--realm", realm, "--yes")
	require.Zero(t, loaded.code(), "%s", loaded.stderr.String())
	require.Regexp(t, `^realm `+realm+` \(.+\) done: (\d+) of (\d+) entities, [1-9]\d* records seen, 0 missing, \d+ calls, `, loaded.stdout.String())
	status := on(t, redis, "scan", "status", "--realm", realm)
	require.Zero(t, status.code())
	require.Regexp(t, realm+` +done `, status.stdout.String())

	rewound := on(t, redis, "cursor", "rewind", "--realm", realm, "--entity", "invoice", "--to", "7d", "--dry-run")
	require.Zero(t, rewound.code())
	require.Regexp(t, `^Invoice of realm `+realm+` \(.+\) would be rewound from `, rewound.stdout.String())
	moved := rows[cursorRow](t, on(t, redis, "cursor", "rewind", "--realm", realm, "--to", "zero", "--yes", "--json"))
	require.Greater(t, len(moved), 25)
	// The feed scans the company at once, and has every cursor again.
	require.Eventually(t, func() bool {
		all := rows[map[string]any](t, on(t, redis, "cursor", "show", "--realm", realm, "--json"))
		for _, row := range all {
			if row["cursor"] == nil {
				return false
			}
		}
		return len(all) > 25
	}, time.Minute, 100*time.Millisecond)

	feed.signal(syscall.SIGTERM)
	require.Zero(t, feed.code())
}

// Without a reconciler a request is refused, or left for one, and can be taken back.
func TestScan_WithoutAReconciler(t *testing.T) {
	t.Parallel()
	redis := devtest.Redis(t)
	store, err := state.Open(t.Context(), state.Options{Config: state.Config{URL: secret.String(redis)}})
	require.NoError(t, err)
	t.Cleanup(func() { store.Close() })
	require.NoError(t, store.Redis().SAdd(t.Context(), "lf:1:realms", "9341453000000001").Err())
	const realm = "9341453000000001"

	p := on(t, redis, "scan", "start", "--realm", realm, "--yes")
	require.Equal(t, 3, p.code())
	require.Contains(t, p.stderr.String(), "no reconciler is running")
	p = on(t, redis, "scan", "start", "--realm", realm, "--yes", "--detach")
	require.Zero(t, p.code())
	require.Regexp(t, `(?m)^REALM +STATE `, on(t, redis, "scan", "status").stdout.String())
	require.Contains(t, on(t, redis, "scan", "start", "--realm", realm, "--yes", "--detach").stderr.String(), "is queued already")
	p = on(t, redis, "scan", "cancel", "--all", "--dry-run")
	require.Zero(t, p.code())
	require.Contains(t, p.stdout.String(), "would be cancelled; it was queued")
	p = on(t, redis, "scan", "cancel", "--realm", realm, "--yes")
	require.Zero(t, p.code())
	require.Contains(t, on(t, redis, "scan", "status").stderr.String(), "no scan was asked for")
	require.Contains(t, on(t, redis, "scan", "status", "--realm", realm).stdout.String(), "cancelled")
	require.Contains(t, on(t, redis, "scan", "cancel", "--realm", realm, "--yes").stderr.String(), "no scan to cancel")
}

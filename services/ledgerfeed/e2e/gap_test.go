package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// gap runs a gap command against the feed's Redis and returns what it printed.
func (p *process) gap(args ...string) string {
	p.t.Helper()
	cmd := exec.Command("ledgerfeed", append(append([]string{"gap"}, args...), "--redis-url", p.printed("redis"))...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(p.t, err, "%s", stderr.String())
	return string(out)
}

func decodeLines[T any](t *testing.T, text string) (all []T) {
	t.Helper()
	for line := range strings.Lines(text) {
		var one T
		require.NoError(t, json.Unmarshal([]byte(line), &one), "%s", line)
		all = append(all, one)
	}
	return all
}

// Of a feed that loses webhooks, every change that a scan found is in the ledger, in
// Redis and beside the Postgres sink, and the coverage says how many there were.
func TestGap_EveryLostWebhookIsInTheLedger(t *testing.T) {
	t.Parallel()
	dir, url := t.TempDir(), devtest.Postgres(t)
	args := []string{"--realms", "4", "--sink", "postgres:" + url, "--seed", "3"}
	first := startDev(t, dir, append(args, "--rate", "60", "--for", "4s", "--drop", "0.2", "--json")...).equal()
	require.Positive(t, first.LearnedByCDC+first.LearnedByQuery)

	p := startDev(t, dir, append(args, "--rate", "0")...)
	p.waitFor("ctrl-C stops")
	conn, err := pgx.Connect(context.Background(), url)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.Background())) }()
	kept := func() (n int) {
		require.NoError(t, conn.QueryRow(context.Background(), `SELECT count(*) FROM ledgerfeed.gap`).Scan(&n))
		return n
	}
	var gaps []state.Gap
	require.Eventually(t, func() bool {
		gaps = decodeLines[state.Gap](t, p.gap("ls", "--limit", "0", "--json"))
		return len(gaps) > 0 && kept() == len(gaps)
	}, time.Minute, 50*time.Millisecond)

	type line struct {
		Entity, Operation string
		Told, Gaps        int
		Coverage          float64
	}
	told, missed := 0, 0
	for _, l := range decodeLines[line](t, p.gap("coverage", "--json")) {
		told, missed = told+l.Told, missed+l.Gaps
		want := 1.0 // no webhook was due: of an entity that sends none
		if l.Told+l.Gaps > 0 {
			want = float64(l.Told) / float64(l.Told+l.Gaps)
		}
		require.InDelta(t, want, l.Coverage, 1e-9)
	}
	due := 0
	for _, g := range gaps {
		if g.Due() {
			due++
		}
	}
	require.Equal(t, due, missed)
	require.Positive(t, told)
	require.Contains(t, p.gap("coverage"), "COVERAGE")

	g := gaps[0]
	shown := p.gap("show", g.Realm, g.Entity, g.ID)
	require.Contains(t, shown, g.Verdict+": ")
	require.Contains(t, shown, "last webhook that told of a change of this company first: 20")
	for _, of := range decodeLines[state.Gap](t, p.gap("ls", "--realm", g.Realm, "--entity", g.Entity, "--verdict", g.Verdict, "--json")) {
		require.Equal(t, []string{g.Realm, g.Entity, g.Verdict}, []string{of.Realm, of.Entity, of.Verdict})
	}
	require.Contains(t, p.gap("ls", "--limit", "3"), "VERDICT")
	p.gap("findings")
	p.signal(syscall.SIGTERM)
	require.Zero(t, p.code())
}

package e2e_test

import (
	"context"
	"encoding/json"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// audited is what a run of audit said.
type audited struct {
	code     int
	stderr   string
	verdicts map[string]state.Audit // by entity
}

func (r *repair) audit(args ...string) audited {
	r.t.Helper()
	args = append([]string{"audit", "--postgres-url", r.conn.Config().ConnString(), "--sink", r.sink(), "--json"}, args...)
	cmd := exec.Command("ledgerfeed", args...)
	cmd.Env = append(cmd.Environ(), r.env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		require.IsType(r.t, &exec.ExitError{}, err, "%s", stderr.String())
	}
	got := audited{code: cmd.ProcessState.ExitCode(), stderr: stderr.String(), verdicts: map[string]state.Audit{}}
	for line := range strings.Lines(string(out)) {
		var v state.Audit
		require.NoError(r.t, json.Unmarshal([]byte(line), &v), "%s", line)
		require.Equal(r.t, r.realm, v.Realm)
		got.verdicts[v.Entity] = v
	}
	return got
}

func (r *repair) one(where string) (id string) {
	r.t.Helper()
	require.NoError(r.t, r.conn.QueryRow(context.Background(), "SELECT id FROM ledgerfeed.entity WHERE "+where+" ORDER BY id LIMIT 1").Scan(&id))
	return id
}

// What somebody took out of the table, made older, or put into it, is found and made
// good, and all of it is on record.
func TestAudit_FindsAndRepairsWhatDiffers(t *testing.T) {
	t.Parallel()
	r := newRepair(t)
	whole := r.audit()
	require.Zero(t, whole.code, "%s", whole.stderr)
	for _, name := range []string{"Invoice", "Customer", "TimeActivity"} {
		v := whole.verdicts[name]
		require.Equal(t, "no-gap", v.Verdict, name)
		require.Equal(t, r.count("NOT deleted AND entity = '"+name+"'"), v.Records, name)
		require.WithinDuration(t, time.Now().Add(-2*time.Minute), v.UpTo, time.Minute, name)
	}

	missing, stale := r.one("entity = 'Invoice' AND NOT deleted"), r.one("entity = 'Customer' AND NOT deleted")
	r.exec("DELETE FROM ledgerfeed.entity WHERE entity = 'Invoice' AND id = '" + missing + "'")
	r.exec("UPDATE ledgerfeed.entity SET version = version - 1000000 WHERE entity = 'Customer' AND id = '" + stale + "'")
	r.exec(`INSERT INTO ledgerfeed.entity (realm, entity, id, version, sync_token, last_updated, deleted, operation, learned, learned_at, merged_into, event_id)
		SELECT realm, entity, '999999', version - 86400000000, sync_token, last_updated, false, operation, learned, learned_at, '', '' FROM ledgerfeed.entity
		WHERE entity = 'Bill' AND NOT deleted LIMIT 1`)

	some := []string{"--grace", "0s", "--entity", "Invoice,Customer,Bill,Vendor"} // a call for each entity would take its time
	quick := r.audit(append(some, "--quick")...)
	require.Equal(t, 1, quick.code)
	require.Equal(t, "gaps", quick.verdicts["Invoice"].Verdict)
	require.Equal(t, "counts-agree", quick.verdicts["Customer"].Verdict, "a stale record does not change the count")
	require.Less(t, quick.verdicts["Customer"].Calls, 2)

	found := r.audit(some...)
	require.Equal(t, 1, found.code)
	require.Contains(t, found.stderr, "3 records differ")
	for name, want := range map[string]state.Audit{
		"Invoice":  {Missing: 1, Detail: "missing " + missing},
		"Customer": {Stale: 1, Detail: "stale " + stale},
		"Bill":     {Extra: 1, Detail: "extra 999999"},
		"Vendor":   {},
	} {
		v := found.verdicts[name]
		require.Equal(t, want, state.Audit{Missing: v.Missing, Stale: v.Stale, Extra: v.Extra, Repaired: v.Repaired, Detail: v.Detail}, name)
	}
	require.Equal(t, 1, r.count("id = '999999' AND NOT deleted"), "nobody asked for a repair")

	repaired := r.audit(append(some, "--repair", "--yes")...)
	require.Equal(t, 1, repaired.code, "there was a gap")
	for _, name := range []string{"Invoice", "Customer", "Bill"} {
		require.Equal(t, 1, repaired.verdicts[name].Repaired, "%s: %+v", name, repaired.verdicts[name])
	}
	require.Zero(t, r.count("id = '999999' AND NOT deleted"))
	require.Zero(t, r.audit(some...).code, "it is whole again")

	// An audit that may not go on keeps what it has, and the next one goes on from there.
	few := r.audit("--max-calls", "30", "--entity", "Invoice,Bill,Customer,Vendor")
	require.Zero(t, few.code, "%s", few.stderr)
	short := r.audit("--max-calls", "5")
	require.Equal(t, 1, short.code)
	require.Contains(t, short.stderr, "the calls allowed are used up")
	rest := r.audit("--skip-younger", "1h")
	require.Zero(t, rest.code, "%s", rest.stderr)
	require.Empty(t, rest.verdicts)
	require.Contains(t, rest.stderr, "left out")

	var rows, runs int
	require.NoError(t, r.conn.QueryRow(context.Background(), "SELECT count(*), count(DISTINCT run) FROM ledgerfeed.audit WHERE entity = 'Invoice'").Scan(&rows, &runs))
	require.Equal(t, rows, runs)
	require.GreaterOrEqual(t, rows, 5)
	var last string
	require.NoError(t, r.conn.QueryRow(context.Background(), "SELECT verdict FROM ledgerfeed.audit WHERE entity = 'Invoice' ORDER BY audited_at DESC LIMIT 1").Scan(&last))
	require.Equal(t, "no-gap", last)
	r.feed.signal(syscall.SIGTERM)
	require.Zero(t, r.feed.code())
}

// A record that the table calls deleted, at a version that is yet to come, and a document
// that is not QuickBooks' at the same version are found and made good.
func TestAudit_RepairsWrongTombstonesAndDocuments(t *testing.T) {
	t.Parallel()
	r := newRepair(t)
	buried, altered := r.one("entity = 'Invoice' AND NOT deleted"), r.one("entity = 'Customer' AND NOT deleted")
	r.exec("UPDATE ledgerfeed.entity SET version = (version / 1000000 + 31536000) * 1000000 + 999999, deleted = true, document = NULL, content_hash = NULL, sync_token = '' WHERE entity = 'Invoice' AND id = '" + buried + "'")
	r.exec("UPDATE ledgerfeed.entity SET document = document || '{\"Balance\": 123456}' WHERE entity = 'Customer' AND id = '" + altered + "'")

	versions := r.audit("--grace", "0s", "--entity", "Invoice,Customer")
	require.Equal(t, 1, versions.verdicts["Invoice"].Missing, "%+v", versions.verdicts["Invoice"])
	require.Equal(t, "no-gap", versions.verdicts["Customer"].Verdict, "the versions agree")

	repaired := r.audit("--grace", "0s", "--entity", "Invoice,Customer", "--content", "--repair", "--yes")
	require.Equal(t, "missing "+buried, repaired.verdicts["Invoice"].Detail)
	require.Equal(t, "differs "+altered, repaired.verdicts["Customer"].Detail)
	for _, name := range []string{"Invoice", "Customer"} {
		require.Equal(t, 1, repaired.verdicts[name].Repaired, "%s: %+v", name, repaired.verdicts[name])
	}
	whole := r.audit("--grace", "0s", "--entity", "Invoice,Customer", "--content")
	require.Zero(t, whole.code, "%s", whole.stderr)
	require.Equal(t, 1, r.count("entity = 'Invoice' AND id = '"+buried+"' AND NOT deleted AND learned = 'restored'"))
	r.feed.signal(syscall.SIGTERM)
	require.Zero(t, r.feed.code())
}

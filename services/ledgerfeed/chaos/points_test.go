package chaos

import (
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
)

// points are the places between two steps, in the order of the flow.
var points = []struct {
	at   sabotage.Point
	kind string
}{
	{sabotage.Received, "ingress"},
	{sabotage.Verified, "ingress"},
	{sabotage.Published, "ingress"},
	{sabotage.Answered, "ingress"},
	{sabotage.Delivered, "processor"},
	{sabotage.Coalesced, "processor"},
	{sabotage.Hydrated, "processor"},
	{sabotage.Followed, "processor"},
	{sabotage.Written, "processor"},
	{sabotage.Marked, "processor"},
	{sabotage.Acked, "processor"},
	{sabotage.ScanBegun, "reconciler"},
	{sabotage.Scanned, "reconciler"},
	{sabotage.ScanSaved, "reconciler"},
	{sabotage.ScanPublished, "reconciler"},
	{sabotage.ScanConcluded, "reconciler"},
	{sabotage.ScanVerified, "reconciler"},
	{sabotage.CursorMoved, "reconciler"},
	{sabotage.Restored, "reconciler"},
}

// A process dies exactly at each point of the flow, and nothing is lost: the sinks
// end as the books, a change comes at most once more for each death, under the same
// key, and no cursor passes what is not delivered.
func TestPoints_NothingIsLostAtAnyOfThem(t *testing.T) {
	if !*dieAtAll {
		t.Log("make chaos-points kills the processes; here only the list is looked at")
		require.Len(t, points, 19)
		return
	}
	o := DefaultOptions()
	o.Realms = 1
	bin, err := build(t.Context(), "", t.Logf)
	require.NoError(t, err)
	dir, err := os.MkdirTemp("", "ledgerfeed-chaos-points-") // the test's own is closed to PostgreSQL
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755))
	r, err := newRun(o, 1, dir, bin)
	require.NoError(t, err)
	r.speed, r.scans = 30, 2*time.Second
	r.plan = nil // nothing is drawn
	r.plant.scanEvery.Store(int64(r.scans))
	stop, err := r.open(t.Context())
	t.Cleanup(func() {
		stop()
		require.NoError(t, r.plant.close())
		if !t.Failed() {
			require.NoError(t, os.RemoveAll(dir))
		}
	})
	require.NoError(t, err)
	r.cursors.ahead = maxReadLag - cursorMargin
	// What a crash leaves undone is to be done by the next replica, not found by a scan.
	for _, one := range r.plant.services["reconciler"] {
		one.kill()
	}
	for _, p := range points {
		t.Run(string(p.at), func(t *testing.T) { r.dieAt(t, p.at, p.kind) })
	}
	require.Empty(t, r.plant.endpoint.oddities())
	doubles, backward, err := r.plant.database.doubles(t.Context())
	require.NoError(t, err)
	require.Zero(t, doubles)
	require.Zero(t, backward)
	wrong, moves := r.cursors.verdict()
	require.Empty(t, wrong)
	require.Positive(t, moves)
	r.tombstones.look(t.Context()) // the last restored record may be newer than its last look
	v := r.tombstones.verdict(time.Now())
	require.Empty(t, v.problems)
	require.Zero(t, v.open)
	require.Positive(t, v.ever)
	res := Result{Invariants: map[string]string{}, Problems: map[string][]string{}}
	r.judgeI1(&res)
	require.Empty(t, res.Problems)
}

// dieAt has the only replica of a service die at the point while changes are made.
func (r *run) dieAt(t *testing.T, at sabotage.Point, kind string) {
	_, most := r.plant.endpoint.repeats()
	one, other := r.plant.services[kind][0], r.plant.services[kind][1]
	other.kill()
	one.setDeadly(at)
	require.True(t, one.down(syscall.SIGTERM, drainWait))
	before := len(one.crashes())
	if at == sabotage.Restored {
		r.makeWrongTombstones(t)
	}
	one.up()
	if kind == "reconciler" && at != sabotage.Restored {
		r.plant.books.alter(func(f *qbosim.Faults) { f.Drop = 1 }) // so that the scans have something to find
	}
	if at == sabotage.Followed {
		r.plant.books.alter(func(f *qbosim.Faults) { f.ReadLag, f.WrongDeletes = time.Minute, 1 }) // deletions that nothing confirms
	}
	killed := func() bool {
		require.NoError(t, r.load.next())
		return len(one.crashes()) > before
	}
	require.Eventually(t, killed, 2*time.Minute, 200*time.Millisecond, "it does not die at %s:\n%s", at, tail(one.log))
	one.setDeadly("")
	crashes := one.crashes()
	require.Equal(t, -1, crashes[len(crashes)-1].code, "it ended otherwise: %s", tail(one.log))
	r.plant.books.alter(func(f *qbosim.Faults) { f.Drop, f.ReadLag, f.WrongDeletes = 0, 0, 0 })
	other.up()
	require.NoError(t, until(t.Context(), r.plant.books.FlushWebhooks))
	r.lastEnd = time.Now()
	require.NoError(t, r.awaitEqual(t.Context(), true))
	require.NoError(t, r.awaitDrained(t.Context())) // the next one dies of a message of its own
	_, now := r.plant.endpoint.repeats()
	require.LessOrEqual(t, now, max(most, 1)+len(one.crashes())-before)
}

// makeWrongTombstones has the sinks hold tombstones of records that are there: the API
// did not show them yet when a webhook said that they were deleted.
func (r *run) makeWrongTombstones(t *testing.T) {
	t.Helper()
	r.plant.books.alter(func(f *qbosim.Faults) { f.ReadLag = maxReadLag })
	for range 3 {
		ref, err := r.plant.books.Create(r.load.realms[0], "Invoice", nil)
		require.NoError(t, err)
		require.NoError(t, r.plant.books.forge(ref, time.Time{}))
	}
	require.Eventually(t, func() bool { return r.tombstones.verdict(time.Now()).open > 0 }, time.Minute, poll)
	r.plant.books.alter(func(f *qbosim.Faults) { f.ReadLag = 0 })
}

// setDeadly has it die at a point, "" for nowhere, from the next start on.
func (r *replica) setDeadly(at sabotage.Point) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deadly = at
}

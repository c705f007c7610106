package e2e_test

import (
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A dev that is killed in the middle of heavy load, twice, and started again on
// its directory loses nothing, and PostgreSQL sees no version twice.
func TestDev_SurvivesKill(t *testing.T) {
	t.Parallel()
	db := openRecorded(t)
	dir := t.TempDir()
	args := []string{"--realms", "3", "--rate", "200", "--seed", "7", "--sink", "jsonl:" + dir + "/changes.jsonl", "--sink", "postgres:" + db.url}

	for _, deliveries := range []int{50, 150} {
		p := startDev(t, dir, args...)
		require.Eventually(t, func() bool { return db.writes(t) >= deliveries || p.over() }, time.Minute, 5*time.Millisecond)
		require.False(t, p.over(), "ended before it was killed")
		p.signal(syscall.SIGKILL)
		<-p.ended
	}
	startDev(t, dir, append(args, "--for", loadFor.String(), "--json")...).equal()
	require.Empty(t, db.writtenTwice(t))
}

// ctrl-C drains: what was delivered is not delivered again after it.
func TestDev_ResumesAfterInterrupt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := startDev(t, dir, "--rate", "50")
	require.Eventually(t, func() bool { return p.lastStatus() > 0 }, time.Minute, 10*time.Millisecond)
	p.signal(syscall.SIGINT)
	require.Zero(t, p.code())
	require.Contains(t, p.stdout.String(), "stopped after")

	s := startDev(t, dir, "--rate", "50", "--for", "2s").equal()
	require.Zero(t, s.Duplicates)
}

func TestDev_InterruptedProofExitsByTheSignal(t *testing.T) {
	t.Parallel()
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			p := startDev(t, t.TempDir(), "--for", "10m")
			p.waitFor("first change delivered")
			p.signal(s)
			require.Equal(t, 128+int(s), p.code(), strconv.Itoa(int(s)))
			require.Contains(t, p.stderr.String(), "interrupted before --for was over")
		})
	}
}

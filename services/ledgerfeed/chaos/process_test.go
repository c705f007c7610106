package chaos

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// script runs a shell script as a process of a run.
func script(t *testing.T, text string) (p *process, dir string) {
	t.Helper()
	dir = t.TempDir()
	j, err := newJournal(filepath.Join(dir, "run.jsonl"))
	require.NoError(t, err)
	p = newProcess(j, dir, "processor", "processor-1", func() spec {
		return spec{binary: "/bin/sh", args: []string{"-c", text}, env: []string{"PATH=/usr/bin:/bin"}, dir: dir}
	})
	p.start()
	t.Cleanup(func() {
		p.stop(syscall.SIGKILL, killWait)
		j.close()
	})
	return p, dir
}

// Two restarts at once of one process are one end: a second SIGTERM would end it at
// once, and what it had under way would look repeated for no reason.
func TestProcess_TwoRestartsAtOnceAskForOneEnd(t *testing.T) {
	p, dir := script(t, `trap 'echo asked >> asked; sleep 0.3' TERM; echo up > up; while ! [ -e asked ]; do sleep 0.02; done; exit 0`)
	up := filepath.Join(dir, "up")
	require.Eventually(t, func() bool { _, err := os.Stat(up); return err == nil }, 10*time.Second, 10*time.Millisecond)
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() { p.down(syscall.SIGTERM, 10*time.Second) })
	}
	both.Wait()
	asked, err := os.ReadFile(filepath.Join(dir, "asked"))
	require.NoError(t, err)
	require.Equal(t, "asked\n", string(asked))
	require.True(t, p.endedWell())
	require.Zero(t, p.abruptly())
	require.Empty(t, p.crashes())
	require.Len(t, p.turned(), 3, "started, asked, ended")
}

func TestProcess_AnEndThatIsNotCleanIsCounted(t *testing.T) {
	p, dir := script(t, `trap 'exit 3' TERM; echo up > up; while :; do sleep 0.02; done`)
	up := filepath.Join(dir, "up")
	require.Eventually(t, func() bool { _, err := os.Stat(up); return err == nil }, 10*time.Second, 10*time.Millisecond)
	require.True(t, p.down(syscall.SIGTERM, 10*time.Second))
	require.Equal(t, 1, p.abruptly())
	require.False(t, p.endedWell())
}

// SIGTERM ends a program that has just been started before it has its handler: that is no
// bad end. One that has run for a while must have one.
func TestProcess_TermBeforeTheHandlerIsNoBadEnd(t *testing.T) {
	p, dir := script(t, `echo up > up; while :; do sleep 0.02; done`)
	up := filepath.Join(dir, "up")
	require.Eventually(t, func() bool { _, err := os.Stat(up); return err == nil }, 5*time.Second, 5*time.Millisecond)
	require.True(t, p.down(syscall.SIGTERM, 10*time.Second))
	require.Zero(t, p.abruptly())
	require.True(t, p.endedWell())

	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", "kill -TERM $$")
	require.Error(t, cmd.Run())
	require.True(t, unready(cmd.ProcessState, time.Second))
	require.False(t, unready(cmd.ProcessState, time.Minute))
	cmd = exec.CommandContext(t.Context(), "/bin/sh", "-c", "exit 3")
	require.Error(t, cmd.Run())
	require.False(t, unready(cmd.ProcessState, time.Second))
}

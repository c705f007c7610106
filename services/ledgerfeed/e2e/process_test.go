package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/dev"
)

const patience = 2 * time.Minute

// process is a running ledgerfeed.
type process struct {
	t              *testing.T
	cmd            *exec.Cmd
	stdout, stderr buffer
	ended          chan struct{}
}

// start runs ledgerfeed with args; what is left of it is killed with the test.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	p := &process{t: t, cmd: exec.CommandContext(ctx, "ledgerfeed", args...), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	p.cmd.Dir = t.TempDir()
	require.NoError(t, p.cmd.Start())
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // the exit code is in ProcessState
	}()
	t.Cleanup(func() {
		cancel()
		<-p.ended
		if t.Failed() {
			t.Logf("ledgerfeed %s\nstdout:\n%s\nstderr:\n%s", strings.Join(args, " "), p.stdout.String(), p.stderr.String())
		}
	})
	return p
}

// startDev runs dev on the directory, on a port of its own.
func startDev(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	return start(t, append([]string{"dev", "--data-dir", dir, "--listen", "127.0.0.1:0", "--console-listen", "off"}, args...)...)
}

// code waits for the end.
func (p *process) code() int {
	p.t.Helper()
	<-p.ended
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// waitFor waits until stdout has text.
func (p *process) waitFor(text string) {
	p.t.Helper()
	require.Eventually(p.t, func() bool {
		return strings.Contains(p.stdout.String(), text) || p.over()
	}, time.Minute, 10*time.Millisecond)
	require.Contains(p.t, p.stdout.String(), text)
}

func (p *process) over() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// field is what stands behind the name in the lines that dev starts with.
func (p *process) field(name string) string {
	p.t.Helper()
	p.waitFor("first change delivered")
	return p.printed(name)
}

// printed is field of a feed that may have nothing to deliver.
func (p *process) printed(name string) string {
	p.t.Helper()
	for line := range strings.Lines(p.stdout.String()) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == name {
			return f[1]
		}
	}
	require.Failf(p.t, "no such line", "%s in:\n%s", name, p.stdout.String())
	return ""
}

// summary is the last line of stdout.
func (p *process) summary() dev.Summary {
	p.t.Helper()
	<-p.ended
	lines := strings.Split(strings.TrimSpace(p.stdout.String()), "\n")
	var s dev.Summary
	require.NoError(p.t, json.Unmarshal([]byte(lines[len(lines)-1]), &s), "stdout: %s\nstderr: %s", p.stdout.String(), p.stderr.String())
	return s
}

// equal requires that the run ended well, with every sink equal to the books.
func (p *process) equal() dev.Summary {
	p.t.Helper()
	s := p.summary()
	require.Zero(p.t, p.code(), "exit code")
	require.Positive(p.t, s.Changes)
	require.Zero(p.t, s.Lost, "lost")
	require.Zero(p.t, s.Stale, "stale")
	require.Zero(p.t, s.Extra, "extra")
	require.Zero(p.t, s.WrongTombstones, "wrong tombstones")
	require.Zero(p.t, s.ContentDiffers, "other content")
	require.Zero(p.t, s.Backwards, "an older version was delivered after a newer one")
	require.LessOrEqual(p.t, s.MaxCallsPerMinute, 500)
	require.LessOrEqual(p.t, s.MaxConcurrent, 10)
	return s
}

// buffer is written by the process and read by the test.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// absolute is for commands, which run in another directory.
func absolute(t *testing.T, path string) string {
	t.Helper()
	abs, err := filepath.Abs(path)
	require.NoError(t, err)
	return abs
}

// write makes a file.
func write(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}

func remove(t *testing.T, path string) {
	t.Helper()
	require.NoError(t, os.Remove(path))
}

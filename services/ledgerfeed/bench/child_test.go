package bench_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// childEnv names what a re-executed test binary is instead of a test.
const childEnv = "LEDGERFEED_BENCH_CHILD"

// child is a process of the measurement. It ends when its standard input does,
// and so with this process, however this process ends.
type child struct {
	name  string
	cmd   *exec.Cmd
	stdin io.Closer
	addr  string // what it printed: where it listens
}

// startChild runs this test binary as name and returns when it says where it listens.
func startChild(t *testing.T, name string, environ ...string) *child {
	t.Helper()
	cmd := exec.CommandContext(context.Background(), os.Args[0])
	cmd.Env = append(os.Environ(), append(environ, childEnv+"="+name)...)
	c := startProcess(t, name, cmd)
	out, err := cmdOutput(c)
	require.NoError(t, err, name)
	c.addr = out
	return c
}

func startProcess(t *testing.T, name string, cmd *exec.Cmd) *child {
	t.Helper()
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	c := &child{name: name, cmd: cmd, stdin: stdin}
	c.addr = ""
	outputs[c] = stdout
	t.Cleanup(c.stop)
	return c
}

// outputs are the standard outputs of the children that have not been read.
var outputs = map[*child]io.Reader{}

func cmdOutput(c *child) (string, error) {
	line, err := bufio.NewReader(outputs[c]).ReadString('\n')
	return strings.TrimSpace(line), err
}

func (c *child) stop() {
	c.stdin.Close()
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	done := make(chan struct{})
	go func() { defer close(done); _ = c.cmd.Wait() }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		_ = c.cmd.Process.Kill()
		<-done
	}
}

// untilParentEnds is how a child waits.
func untilParentEnds() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); stop() }()
	<-ctx.Done()
}

// cpu is the processor time the child has used. Linux only; 0 elsewhere.
func (c *child) cpu() time.Duration {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	// The name in parentheses may hold spaces; utime and stime are fields 14 and 15.
	fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// memory is a line of /proc/PID/status such as VmRSS, in MiB.
func (c *child) memory(line string) float64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for text := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(text, line+":"); ok {
			kib, _ := strconv.Atoi(strings.Fields(rest)[0])
			return float64(kib) / 1024
		}
	}
	return 0
}

package bench_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// childEnv names what a re-executed test binary is instead of a test.
const childEnv = "BENCH_CHILD"

// child is a process of the measurement. It ends when its standard input does,
// and so with this process, however this process ends.
type child struct {
	cmd   *exec.Cmd
	stdin io.Closer
	pid   int      // of the process that is measured
	says  []string // the rest of what it said at its start: its addresses
}

// startChild runs this test binary as name and returns when it says that it
// serves: a line with the number of the process to be measured, and addresses.
func startChild(t *testing.T, name string, environ ...string) *child {
	t.Helper()
	cmd := exec.CommandContext(context.Background(), os.Args[0])
	// No setting of the person who measures reaches what is measured.
	own := slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "LEDGERFEED_") })
	cmd.Env = append(own, append(environ, childEnv+"="+name)...)
	cmd.Stderr = os.Stderr
	// Ctrl-C is for this process, which ends its children in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	c := &child{cmd: cmd, stdin: stdin}
	t.Cleanup(c.stop)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err, "%s does not start", name)
	words := strings.Fields(line)
	c.pid, err = strconv.Atoi(words[0])
	require.NoError(t, err, line)
	c.says = words[1:]
	return c
}

// serving is what a child says to startChild.
func serving(addresses ...string) {
	fmt.Println(os.Getpid(), strings.Join(addresses, " "))
}

func (c *child) stop() {
	c.stdin.Close()
	killer := time.AfterFunc(20*time.Second, func() { _ = c.cmd.Process.Kill() })
	defer killer.Stop()
	_ = c.cmd.Wait()
}

// untilParentEnds is how a child waits.
func untilParentEnds() {
	// Interrupt too: somebody may end all processes of this binary by name.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); stop() }()
	<-ctx.Done()
}

// used is the processor time that the process took. Linux only; 0 elsewhere.
func (c *child) used() time.Duration {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.pid))
	if err != nil {
		return 0
	}
	// The name in parentheses may hold spaces; utime and stime are fields 14 and
	// 15, in ticks, of which Linux tells every program 100 a second.
	fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// memory is a line of /proc/PID/status such as VmRSS, in MiB. Linux only; 0 elsewhere.
func (c *child) memory(line string) float64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.pid))
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

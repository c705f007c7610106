package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
)

// role makes this test binary a program of its own; see TestMain_*.
const role = "LIFECYCLE_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "":
		goleak.VerifyTestMain(m)
	case "drain": // ends a while after the first signal
		os.Exit(lifecycle.Main("prog", func(ctx context.Context) error {
			fmt.Println("up")
			<-ctx.Done()
			fmt.Println("draining after", context.Cause(ctx))
			return ctx.Err()
		}))
	case "stuck": // never ends by itself
		os.Exit(lifecycle.Main("prog", func(ctx context.Context) error {
			fmt.Println("up")
			<-ctx.Done()
			fmt.Println("draining after", context.Cause(ctx))
			select {}
		}))
	case "usage":
		os.Exit(lifecycle.Main("prog", func(context.Context) error {
			return lifecycle.Usage(errors.Join(errors.New("first"), errors.New("second")))
		}))
	}
}

func TestExitCode(t *testing.T) {
	broken := errors.New("broken")
	for _, tc := range []struct {
		name string
		err  error
		want int
	}{
		{"nil", nil, 0},
		{"error", broken, 1},
		{"usage", lifecycle.Usage(broken), 2},
		{"wrapped usage", fmt.Errorf("start: %w", lifecycle.Usage(broken)), 2},
		{"unreachable", lifecycle.Unreachable("127.0.0.1:1", broken), 3},
		{"joined", errors.Join(broken, lifecycle.Unreachable("x", broken)), 3},
		{"usage of nil", lifecycle.Usage(nil), 0},
		{"unreachable of nil", lifecycle.Unreachable("x", nil), 0},
		{"cancelled", fmt.Errorf("run: %w", context.Canceled), 0},
		{"cancelled and more", errors.Join(context.Canceled, broken), 1},
		{"cancelled twice", fmt.Errorf("a: %w", errors.Join(context.Canceled, context.Canceled)), 0},
		{"deadline", context.DeadlineExceeded, 1},
	} {
		require.Equal(t, tc.want, lifecycle.ExitCode(tc.err), tc.name)
	}
	require.EqualError(t, lifecycle.Unreachable("127.0.0.1:1", broken), "127.0.0.1:1 does not answer: broken")
	require.EqualError(t, lifecycle.Unreachable("", broken), "broken")
	require.Equal(t, lifecycle.ExitUnreachable, lifecycle.ExitCode(lifecycle.Unreachable("", broken)))
	require.ErrorIs(t, lifecycle.Usage(broken), broken)
}

// program starts this binary in a role; wait returns its exit code.
func program(t *testing.T, as string) (p *os.Process, stdout chan string, stderr *strings.Builder, wait func() int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), role+"="+as)
	stdout, stderr = make(chan string, 10), &strings.Builder{}
	cmd.Stdout, cmd.Stderr = lines(stdout), stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd.Process, stdout, stderr, func() int {
		_ = cmd.Wait()
		return cmd.ProcessState.ExitCode()
	}
}

type lines chan string

func (l lines) Write(p []byte) (int, error) {
	for _, line := range strings.Split(strings.TrimSpace(string(p)), "\n") {
		l <- line
	}
	return len(p), nil
}

func expect(t *testing.T, stdout <-chan string, want string) {
	t.Helper()
	select {
	case got := <-stdout:
		require.Equal(t, want, got)
	case <-time.After(30 * time.Second):
		t.Fatalf("no %q", want)
	}
}

func TestMain_FirstSignalDrains(t *testing.T) {
	for name, sig := range map[string]os.Signal{"interrupt": os.Interrupt, "terminated": sigterm} {
		p, stdout, stderr, wait := program(t, "drain")
		expect(t, stdout, "up")
		require.NoError(t, p.Signal(sig))
		expect(t, stdout, "draining after signal: "+name)
		require.Equal(t, 0, wait())
		require.Empty(t, stderr.String())
	}
}

func TestMain_SecondSignalEndsAtOnce(t *testing.T) {
	p, stdout, _, wait := program(t, "stuck")
	expect(t, stdout, "up")
	require.NoError(t, p.Signal(sigterm))
	expect(t, stdout, "draining after signal: terminated")
	require.NoError(t, p.Signal(os.Interrupt))
	require.Equal(t, 130, wait())
}

func TestMain_PrintsTheError(t *testing.T) {
	_, _, stderr, wait := program(t, "usage")
	require.Equal(t, 2, wait())
	require.Equal(t, "prog: first\n  second\n", stderr.String())
}

func TestContext_StopIsSafeTwice(t *testing.T) {
	ctx, stop := lifecycle.Context(t.Context())
	require.NoError(t, ctx.Err())
	stop()
	stop()
	require.ErrorIs(t, ctx.Err(), context.Canceled)
}

func TestVersion_IsNeverEmpty(t *testing.T) { require.NotEmpty(t, lifecycle.Version()) }

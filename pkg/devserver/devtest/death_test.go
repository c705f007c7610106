package devtest_test

import (
	"bufio"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
)

// childEnv makes the test binary a child of itself.
const childEnv = "DEVTEST_CHILD"

// TestChild is no test of its own: it is what the tests below run in a process
// that they kill, or with binaries missing.
func TestChild(t *testing.T) {
	switch os.Getenv(childEnv) {
	case "":
		return
	case "servers":
		os.Stdout.WriteString("url " + devtest.RealRedis(t) + "\nurl " + devtest.Postgres(t) + "\nready\n")
		select {}
	case "redis":
		devtest.RealRedis(t)
	}
}

func child(t *testing.T, what string, env ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(exe, "-test.run=^TestChild$", "-test.v")
	cmd.Env = append(append(os.Environ(), childEnv+"="+what), env...)
	return cmd
}

func TestServers_DieWithTheTestProcess(t *testing.T) {
	cmd := child(t, "servers")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())

	var addrs []string
	for lines := bufio.NewScanner(out); lines.Scan() && lines.Text() != "ready"; {
		if text, ok := strings.CutPrefix(lines.Text(), "url "); ok {
			u, err := url.Parse(text)
			require.NoError(t, err)
			addrs = append(addrs, u.Host)
		}
	}
	require.Len(t, addrs, 2)
	for _, a := range addrs {
		require.True(t, listens(a), a)
	}

	require.NoError(t, cmd.Process.Kill())
	cmd.Wait()

	for _, a := range addrs {
		require.Eventually(t, func() bool { return !listens(a) }, 10*time.Second, 20*time.Millisecond, "%s is still up", a)
	}
}

func listens(addr string) bool {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

func TestRealRedis_SaysWhatToInstall(t *testing.T) {
	out, err := child(t, "redis", "PATH=/nowhere").CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "redis-server is not installed: run `apt-get install redis-server`")
}

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

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver"
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
	case "given":
		conn, err := nats.Connect(devtest.NATS(t))
		require.NoError(t, err)
		js, err := jetstream.New(conn)
		require.NoError(t, err)
		_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "LF_EVENTS", Subjects: []string{"lf.event.>"}})
		require.NoError(t, err)
		_, err = js.Stream(t.Context(), "LF_EVENTS")
		require.NoError(t, err)
		devtest.NATS(t)
		_, err = js.Stream(t.Context(), "LF_EVENTS")
		require.ErrorIs(t, err, jetstream.ErrStreamNotFound)

		c := client(t, devtest.Redis(t))
		require.NoError(t, c.Set(t.Context(), "k", "v", 0).Err())
		devtest.Redis(t)
		require.Zero(t, c.Exists(t.Context(), "k").Val())
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

func TestNATSAndRedis_UseTheServersGivenAndEmptyThem(t *testing.T) {
	n, err := devserver.StartNATS(devserver.NATSOptions{Dir: t.TempDir()})
	require.NoError(t, err)
	defer n.Close()
	r, err := devserver.StartRedis(devserver.RedisOptions{})
	require.NoError(t, err)
	defer r.Close()
	out, err := child(t, "given", "NATS_URL="+n.URL(), "REDIS_URL="+r.URL()).CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), "devtest: NATS at NATS_URL")
	require.Contains(t, string(out), "devtest: Redis at REDIS_URL")
}

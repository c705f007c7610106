package devserver_test

import (
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver"
)

func TestLoopback_IsIPv6WhereThereIsNoOther(t *testing.T) {
	fails := func(err error) func(string, int) (net.Listener, error) {
		return func(string, int) (net.Listener, error) {
			return nil, &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", err)}
		}
	}
	require.Equal(t, "127.0.0.1", devserver.Loopback())
	require.Equal(t, "::1", devserver.LoopbackOf(fails(syscall.EADDRNOTAVAIL)))
	require.Equal(t, "::1", devserver.LoopbackOf(fails(syscall.EAFNOSUPPORT)))
	require.Equal(t, "127.0.0.1", devserver.LoopbackOf(fails(errors.New("another reason"))))
}

func TestServers_ListenOnIPv6(t *testing.T) {
	l, err := net.Listen("tcp", "[::1]:0")
	require.NoError(t, err, "this machine has no loopback address ::1, which the test needs: sysctl net.ipv6.conf.lo.disable_ipv6=0")
	require.NoError(t, l.Close())
	redis, err := devserver.StartRedis(devserver.RedisOptions{Listen: "[::1]:0"})
	require.NoError(t, err)
	defer redis.Close()
	nats, err := devserver.StartNATS(devserver.NATSOptions{Dir: t.TempDir(), Listen: "[::1]:0", Monitor: true})
	require.NoError(t, err)
	defer nats.Close()
	for _, url := range []string{redis.URL(), nats.URL(), nats.MonitorURL()} {
		require.Contains(t, url, "://[::1]:")
		address := strings.TrimSuffix(url[strings.Index(url, "://")+3:], "/0")
		conn, err := net.Dial("tcp", address)
		require.NoError(t, err)
		require.NoError(t, conn.Close())
	}
}

package devserver_test

import (
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver"
)

func TestStartNATS_KeepsItsStreams(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "dir")
	for restart := range 2 {
		n, err := devserver.StartNATS(devserver.NATSOptions{Dir: dir, SyncAlways: true})
		require.NoError(t, err)
		u, err := url.Parse(n.URL())
		require.NoError(t, err)
		require.Equal(t, "127.0.0.1", u.Hostname())

		nc, err := nats.Connect(n.URL())
		require.NoError(t, err)
		js, err := jetstream.New(nc)
		require.NoError(t, err)
		s, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
		require.NoError(t, err)
		require.EqualValues(t, restart, s.CachedInfo().State.Msgs)
		_, err = js.Publish(t.Context(), "s", nil)
		require.NoError(t, err)
		require.EqualValues(t, devserver.MaxPayload, nc.MaxPayload())
		nc.Close()
		n.Close()
		n.Close()
	}
}

// A stream may be allowed more than the disk has free, as on a laptop that is almost full.
func TestStartNATS_TakesStreamsLargerThanTheFreeDisk(t *testing.T) {
	n, err := devserver.StartNATS(devserver.NATSOptions{Dir: t.TempDir()})
	require.NoError(t, err)
	defer n.Close()
	_, err = jetStream(t, n.URL()).CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, MaxBytes: devserver.MaxStore - 1})
	require.NoError(t, err)
}

func TestStart_SaysWhatIsWrong(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))

	tests := []struct{ name, listen, dir, want string }{
		{"port in use", taken.Addr().String(), t.TempDir(), "address already in use"},
		{"reachable by others", "0.0.0.0:0", t.TempDir(), `listen address "0.0.0.0:0": want a loopback address such as 127.0.0.1:0`},
		{"no port", "127.0.0.1", t.TempDir(), `listen address "127.0.0.1": want host:port`},
		{"odd port", "127.0.0.1:70000", t.TempDir(), `port "70000"`},
		{"not a directory", "", filepath.Join(file, "dir"), "not a directory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := devserver.StartNATS(devserver.NATSOptions{Dir: tt.dir, Listen: tt.listen})
			require.ErrorContains(t, err, "start NATS: ")
			require.ErrorContains(t, err, tt.want)

			_, err = devserver.StartRedis(devserver.RedisOptions{Journal: filepath.Join(tt.dir, "journal"), Listen: tt.listen})
			require.ErrorContains(t, err, "start Redis: ")
			require.ErrorContains(t, err, tt.want)
		})
	}
	_, err = devserver.StartNATS(devserver.NATSOptions{})
	require.ErrorContains(t, err, "no directory given")
}

// Two servers on one store would corrupt it.
func TestStartNATS_RefusesAStoreInUse(t *testing.T) {
	dir := t.TempDir()
	n, err := devserver.StartNATS(devserver.NATSOptions{Dir: dir})
	require.NoError(t, err)
	defer n.Close()
	started := time.Now()
	_, err = devserver.StartNATS(devserver.NATSOptions{Dir: dir})
	require.ErrorContains(t, err, "in use by another process")
	require.Less(t, time.Since(started), 5*time.Second)
	require.True(t, strings.Contains(err.Error(), dir), err)
}

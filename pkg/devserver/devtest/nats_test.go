package devtest_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
)

func jetStream(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	return js
}

func TestNATSServer_KeepsItsStreamsThroughAStop(t *testing.T) {
	s := devtest.StartNATS(t, devserver.NATSOptions{SyncAlways: true})
	require.Equal(t, "nats://"+s.Addr(), s.URL())
	js := jetStream(t, s.URL())
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	require.NoError(t, err)
	_, err = js.Publish(t.Context(), "s", nil)
	require.NoError(t, err)
	s.Stop()
	s.Stop()
	_, err = nats.Connect(s.URL())
	require.Error(t, err)
	s.Start()
	s.Start()
	stream, err := jetStream(t, s.URL()).Stream(t.Context(), "S")
	require.NoError(t, err)
	require.EqualValues(t, 1, stream.CachedInfo().State.Msgs)
}

func TestNATSCluster_OutlivesTheLeader(t *testing.T) {
	c := devtest.StartNATSCluster(t)
	require.Len(t, strings.Split(c.MonitorURL(), ","), devtest.NATSServers)
	js := jetStream(t, c.URL())
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Replicas: devtest.NATSServers})
	require.NoError(t, err)
	publish := func() {
		t.Helper()
		require.Eventually(t, func() bool { _, err := js.Publish(t.Context(), "s", nil); return err == nil }, time.Minute, 20*time.Millisecond)
	}
	publish()
	c.StepDown("S")
	publish()
	leader := c.Leader("S")
	c.Stop(leader)
	require.NotEqual(t, leader, c.Leader("S"))
	publish()
	c.Start(leader)
	c.WaitForPeers()
	for i := range devtest.NATSServers { // all at once: the data are on the disks
		c.Stop(i)
	}
	for i := range devtest.NATSServers {
		c.Start(i)
	}
	c.Leader("S")
	publish()
	stream, err := js.Stream(t.Context(), "S")
	require.NoError(t, err)
	require.GreaterOrEqual(t, stream.CachedInfo().State.Msgs, uint64(4))
}

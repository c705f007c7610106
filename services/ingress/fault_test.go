package ingress_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

// The tests of this file break what is between the ingress and the broker, or
// the broker, under continuous traffic and with the real budget. In each, no 200
// without a stored message (I1), no answer later than Intuit waits, and every
// sender gets its 200 afterwards without a restart (I11): see traffic.

// besieged is an ingress on a broker of its own, and its traffic.
func besieged(t *testing.T, l load) (*bundle, *traffic) {
	t.Helper()
	t.Parallel()
	b := setupOn(t, devtest.StartNATS(t, devserver.NATSOptions{}).URL(), nil)
	return b, b.traffic(l)
}

func TestFault_CutBeforeThePublishArrives(t *testing.T) {
	b, tr := besieged(t, load{})
	for _, bytes := range []int64{0, 1, 500, 5000} { // between messages and within
		b.proxy.CutAfter(bytes)
		b.eventually(b.proxy.IsCut, "no byte was sent")
		tr.bites(senders)
		b.proxy.Restore()
		tr.flows()
	}
	tr.holds()
}

func TestFault_CutBetweenThePublishAndItsAck(t *testing.T) {
	b, tr := besieged(t, load{})
	for range 3 {
		b.proxy.Mute()
		tr.unanswered()
		b.proxy.Cut()
		tr.bites(senders)
		b.proxy.Unmute()
		b.proxy.Restore()
		tr.flows()
	}
	b.proxy.Mute() // until they have been answered 503 for what is stored
	tr.bites(senders)
	b.proxy.Cut()
	b.proxy.Unmute()
	b.proxy.Restore()
	tr.holds()
}

// The connection stands still and stays open.
func TestFault_Stall(t *testing.T) {
	b, tr := besieged(t, load{})
	b.proxy.Stall()
	<-time.After(10 * time.Second)
	require.Positive(t, tr.refusals())
	b.proxy.Unstall()
	tr.holds()
}

// What is sent meanwhile fills the socket's buffers, and whoever writes then
// waits for as long as the connection stands.
func TestFault_StallWithMoreThanTheSocketTakes(t *testing.T) {
	b, tr := besieged(t, load{junk: 1 << 20})
	b.proxy.Stall()
	<-time.After(10 * time.Second)
	require.Positive(t, tr.refusals())
	b.proxy.Unstall()
	tr.holds()
}

// The broker's machine is gone: connections are ended, new ones get no answer.
func TestFault_ReconnectGetsNoAnswer(t *testing.T) {
	b, tr := besieged(t, load{})
	b.proxy.Stall()
	b.proxy.Drop()
	<-time.After(10 * time.Second)
	require.Positive(t, tr.refusals())
	b.proxy.Unstall()
	tr.holds()
}

// The connection is dead and nobody was told; a new one would work.
func TestFault_HalfOpen(t *testing.T) {
	b, tr := besieged(t, load{})
	b.proxy.HalfOpen()
	tr.bites(senders)
	tr.holds()
}

func TestFault_SlowNetwork(t *testing.T) {
	b, tr := besieged(t, load{})
	b.proxy.Slow(300 * time.Millisecond)
	tr.flows() // late, but in time
	b.proxy.Slow(1500 * time.Millisecond)
	tr.bites(senders)
	b.proxy.Slow(0)
	tr.holds()
}

func TestFault_BrokerRestarts(t *testing.T) {
	t.Parallel()
	server := devtest.StartNATS(t, devserver.NATSOptions{})
	tr := setupOn(t, server.URL(), nil).traffic(load{})
	for range 3 {
		server.Stop()
		tr.bites(senders)
		server.Start()
		tr.flows()
	}
	tr.holds()
}

// Err 10077 is answered at once, and the stream taken as it is once it was emptied.
func TestFault_StreamIsFull(t *testing.T) {
	t.Parallel()
	server := devtest.StartNATS(t, devserver.NATSOptions{})
	b := setupOn(t, server.URL(), func(c *stream.Config) { c.EventsMaxBytes = 1 << 20 })
	tr := b.traffic(load{events: 40})
	tr.bites(10 * senders)
	tr.empties()
	tr.holds()
	require.NotZero(t, b.logs.FilterMessage("notification not stored").Len())
}

// cluster is an ingress on three brokers, and its traffic.
func cluster(t *testing.T) (*devtest.NATSCluster, *traffic) {
	t.Helper()
	t.Parallel()
	c := devtest.StartNATSCluster(t)
	return c, setupOn(t, c.URL(), func(c *stream.Config) { c.Profile = stream.Cluster }).traffic(load{pause: pause})
}

func TestFault_LeaderChanges(t *testing.T) {
	c, tr := cluster(t)
	for range 3 {
		c.StepDown(stream.EventStream)
		tr.flows()
	}
	leader := c.Leader(stream.EventStream)
	c.Stop(leader)
	require.NotEqual(t, leader, c.Leader(stream.EventStream))
	tr.flows()
	c.Start(leader)
	tr.holds()
}

// Without a quorum nothing is stored and nothing is answered 200.
func TestFault_TwoOfThreeAreDown(t *testing.T) {
	c, tr := cluster(t)
	for i := range devtest.NATSServers - 1 {
		c.Stop(i)
	}
	tr.bites(2 * senders)
	for i := range devtest.NATSServers - 1 {
		c.Start(i)
	}
	tr.holds()
}

package stream_test

import (
	"context"
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

var brokerCheck = flag.Bool("stream.broker", false, "kill three nats-servers in turn, with and without compression")

// losingServer is the version of nats-server of which `make broker-check` has shown that
// it loses acknowledged messages of a compressed stream (docs/adr/0014).
const losingServer = "2.15.3"

func TestCompression_PinnedServerIsTheOneThatWasChecked(t *testing.T) {
	require.Equal(t, losingServer, server.VERSION,
		"nats-server was changed: run `make broker-check`, put this version into losingServer, and its result into docs/adr/0014")
}

// Three servers that sync every message, each killed in turn: an acknowledged message
// of three replicas survives that, unless its stream is compressed.
func TestCompression_LosesAcknowledgedMessagesOfKilledServers(t *testing.T) {
	if !*brokerCheck {
		t.Log("make broker-check kills the servers")
		return
	}
	for _, tc := range []struct {
		name                 string
		compressed, upgraded bool
		loses                bool
	}{
		{name: "compressed", compressed: true, loses: true},
		{name: "not compressed"},
		{name: "compressed by an earlier version, then opened by this one", compressed: true, upgraded: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k := startKilled(t)
			if tc.compressed {
				devtest.CompressStream(t, k.cluster.URL(), k.name)
			}
			k.restartInOrder(t)
			if tc.upgraded {
				k.ensure(t)
				require.True(t, k.current(t))
			}
			k.killInTurn(t)
			kept := k.kept(t)
			t.Logf("nats-server %s: %d messages acknowledged, %d of them kept", server.VERSION, k.sent, kept)
			if !tc.loses {
				require.Equal(t, k.sent, kept, "an acknowledged message of a stream without compression is lost: do not use this server")
				return
			}
			require.Less(t, kept, k.sent, "if this test fails, the server no longer loses messages: ADR 14 can be revisited")
			require.Contains(t, k.cluster.Logs(), "compression reader", "lost for another reason")
		})
	}
}

// killed is a stream on a cluster whose servers are killed.
type killed struct {
	cluster *devtest.NATSProcesses
	conn    *stream.Conn
	js      jetstream.JetStream
	name    string
	sent    int // and acknowledged
}

const (
	// caughtUp is ample for a server that can read its stream to catch up with the
	// others; what cannot be read makes the run wait for all of it.
	caughtUp = 15 * time.Second
	// stuck is how long no message was acknowledged when there is no leader any more.
	stuck = 30 * time.Second
)

func startKilled(t *testing.T) *killed {
	t.Helper()
	k := &killed{cluster: devtest.StartNATSProcesses(t), name: stream.GapStream}
	k.conn = connect(t, k.cluster.URL(), func(c *stream.Config) { c.Profile = stream.Cluster })
	k.ensure(t)
	k.js = raw(t, k.cluster.URL())
	return k
}

// ensure waits until each stream has a leader.
func (k *killed) ensure(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { return k.conn.EnsureTopology(t.Context()) == nil }, time.Minute, 200*time.Millisecond)
}

// restartInOrder gives each server a snapshot to start from.
func (k *killed) restartInOrder(t *testing.T) {
	t.Helper()
	require.True(t, k.publish(t, 20))
	for i := range devtest.NATSServers {
		k.cluster.Stop(i)
		k.cluster.Start(i)
		require.True(t, k.current(t), "a server that was stopped in order catches up")
		require.True(t, k.publish(t, 2))
	}
}

func (k *killed) killInTurn(t *testing.T) {
	t.Helper()
	for round := range 3 {
		for i := range devtest.NATSServers {
			if !k.publish(t, 5) {
				return
			}
			k.cluster.Kill(i)
			k.cluster.Start(i)
			if !k.current(t) {
				t.Logf("round %d: server %d does not catch up after it was killed", round, i)
			}
			if !k.publish(t, 5) {
				return
			}
		}
	}
}

// publish reports whether n more messages were acknowledged.
func (k *killed) publish(t *testing.T, n int) bool {
	t.Helper()
	for range n {
		acked := waitFor(t, stuck, func(ctx context.Context) bool {
			_, err := k.js.Publish(ctx, "lf.gap.1", fmt.Appendf(nil, "%0400d", k.sent), jetstream.WithMsgID(fmt.Sprint(k.sent)))
			return err == nil
		})
		if !acked {
			t.Logf("no message is acknowledged any more after %d", k.sent)
			return false
		}
		k.sent++
	}
	return true
}

// current reports whether all servers have all of the stream.
func (k *killed) current(t *testing.T) bool {
	t.Helper()
	return waitFor(t, caughtUp, func(ctx context.Context) bool {
		s, err := k.js.Stream(ctx, k.name)
		if err != nil {
			return false
		}
		cluster := s.CachedInfo().Cluster
		if cluster == nil || cluster.Leader == "" || len(cluster.Replicas) != devtest.NATSServers-1 {
			return false
		}
		for _, r := range cluster.Replicas {
			if !r.Current || r.Offline {
				return false
			}
		}
		return true
	})
}

// kept kills all servers at once, as a power cut does, and returns how many of the
// acknowledged messages can be read after their start.
func (k *killed) kept(t *testing.T) (n int) {
	t.Helper()
	for i := range devtest.NATSServers {
		k.cluster.Kill(i)
	}
	for i := range devtest.NATSServers {
		k.cluster.Start(i)
	}
	waitFor(t, stuck, func(ctx context.Context) bool {
		n = 0
		s, err := k.js.Stream(ctx, k.name)
		if err != nil {
			return false
		}
		for seq := range uint64(k.sent) {
			if _, err := s.GetMsg(ctx, seq+1); err == nil {
				n++
			}
		}
		return n == k.sent
	})
	return n
}

// waitFor reports whether done succeeded within d.
func waitFor(t *testing.T, d time.Duration, done func(context.Context) bool) bool {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); <-tick.C {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		ok := done(ctx)
		cancel()
		if ok {
			return true
		}
	}
	return false
}

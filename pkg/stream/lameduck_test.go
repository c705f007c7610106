package stream_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

// Servers that are upgraded one after the other send their clients away first (lame duck
// mode): what is published meanwhile is acknowledged in the end, and delivered.
func TestLameDuck_ARollingUpgradeLosesNothing(t *testing.T) {
	t.Parallel()
	servers := devtest.StartNATSProcesses(t)
	cluster := func(c *stream.Config) { c.Profile = stream.Cluster }
	c := connect(t, servers.URL(), cluster)
	require.Eventually(t, func() bool { return c.EnsureTopology(t.Context()) == nil }, 30*time.Second, 100*time.Millisecond)
	js := raw(t, servers.URL())
	current := func() bool {
		s, err := js.Stream(t.Context(), stream.EventStream)
		if err != nil || s.CachedInfo().Cluster == nil {
			return false
		}
		all := s.CachedInfo().Cluster.Replicas
		for _, r := range all {
			if !r.Current {
				return false
			}
		}
		return len(all) == devtest.NATSServers-1
	}
	// What was on its way to a client that moves is delivered again after this.
	events := consume(t, c, func(o *stream.ConsumeOptions) { o.AckWait = 2 * time.Second })
	ctx, stop := context.WithCancel(t.Context())
	published := make(chan map[string]bool, 1)
	go func() {
		all := map[string]bool{}
		for i := 0; ctx.Err() == nil; i++ {
			e := env("1", i)
			for c.Publish(context.WithoutCancel(ctx), e) != nil {
			}
			all[e.GetId()] = true
		}
		published <- all
	}()
	upgraded := make(chan struct{})
	go func() {
		defer close(upgraded)
		for i := range devtest.NATSServers {
			for !current() && t.Context().Err() == nil {
				<-time.After(50 * time.Millisecond)
			}
			servers.LameDuck(i)
			servers.Start(i)
		}
		stop()
	}()
	got := map[string]bool{}
	take := func(m *stream.Message) {
		e, err := m.Envelope()
		require.NoError(t, err)
		got[e.GetId()] = true
		if err := m.Ack(t.Context()); err != nil {
			t.Logf("comes again: %v", err)
		}
	}
	for open := true; open; {
		select {
		case <-upgraded:
			open = false
		case m := <-events.messages:
			take(m)
		}
	}
	for id := range <-published {
		for !got[id] {
			take(events.next(t))
		}
	}
	require.Eventually(t, func() bool { return c.Ready(t.Context()) == nil }, 30*time.Second, 50*time.Millisecond)
	events.stop(t)
}

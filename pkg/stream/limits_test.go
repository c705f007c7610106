package stream_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// What an account or a server does not allow is named with what to do about it.
func TestLimits_OfAnAccountAreNamed(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		limits devtest.NATSLimits
		want   []string
	}{
		"streams":        {devtest.NATSLimits{Streams: 2}, []string{"maximum number of streams reached", "raise the number of streams of the NATS account"}},
		"storage":        {devtest.NATSLimits{Storage: 70 << 20}, []string{"ensure stream LF_RETRY", "raise the storage of the NATS account or max_file_store"}},
		"server storage": {devtest.NATSLimits{ServerStorage: 70 << 20}, []string{"ensure stream LF_RETRY", "raise the storage of the NATS account or max_file_store"}},
		"payload":        {devtest.NATSLimits{MaxPayload: 1000}, []string{"max_payload 1000, and 65536 or more is needed: raise it"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := admin(t, devtest.StartNATSAccount(t, tc.limits))
			err := c.EnsureTopology(t.Context())
			for _, want := range tc.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
}

// A consumer over the limit is refused with what to do, and made once there is room.
func TestLimits_OfConsumers(t *testing.T) {
	t.Parallel()
	n := devtest.StartNATSAccount(t, devtest.NATSLimits{Consumers: 1})
	c := admin(t, n)
	require.NoError(t, c.EnsureTopology(t.Context()))
	group := func(g int) func(*stream.ConsumeOptions) {
		return func(o *stream.ConsumeOptions) {
			o.Queue, o.Durable = stream.Group(g), stream.GroupDurable("processor", g)
		}
	}
	consume(t, c, group(0))
	first := stream.ConsumeOptions{Queue: stream.Group(0), Durable: stream.GroupDurable("processor", 0)}
	require.Eventually(t, func() bool { return c.ConsumerDrift(t.Context(), first) == nil }, 20*time.Second, 10*time.Millisecond)
	select {
	case err := <-consume(t, c, group(1)).done:
		require.ErrorContains(t, err, "raise the number of consumers of the NATS account")
	case <-time.After(20 * time.Second):
		t.Fatal("the consumer was not refused")
	}
	n.SetLimits(devtest.NATSLimits{})
	second := consume(t, c, group(1))
	require.NoError(t, c.Publish(t.Context(), someOf(t, 1)))
	require.NotNil(t, second.next(t))
}

// A connection over the limit is named, and is made once another one has ended.
func TestLimits_OfConnections(t *testing.T) {
	t.Parallel()
	n := devtest.StartNATSAccount(t, devtest.NATSLimits{Connections: 1})
	first := admin(t, n)
	another := func() error {
		c, err := stream.Connect(t.Context(), stream.Options{Config: config(n.URL(), func(c *stream.Config) { c.CredentialsFile = n.Credentials("other", nil, nil) })})
		if err == nil {
			c.Close()
		}
		return err
	}
	err := another()
	require.ErrorIs(t, err, stream.ErrUnreachable)
	require.ErrorContains(t, err, "maximum account active connections exceeded")
	first.Close()
	require.Eventually(t, func() bool { return another() == nil }, 20*time.Second, 20*time.Millisecond)
}

// A connection that was up outlives a limit that it is over: it comes back by itself.
func TestLimits_AConnectionComesBack(t *testing.T) {
	t.Parallel()
	n := devtest.StartNATSAccount(t, devtest.NATSLimits{})
	c := admin(t, n)
	require.NoError(t, c.EnsureTopology(t.Context()))
	other := admin(t, n)
	n.SetLimits(devtest.NATSLimits{Connections: 1}) // the server ends one of the two
	ready := func(c *stream.Conn) bool { return c.Ready(t.Context()) == nil }
	require.Eventually(t, func() bool { return ready(c) != ready(other) }, 20*time.Second, 20*time.Millisecond)
	n.SetLimits(devtest.NATSLimits{})
	require.Eventually(t, func() bool { return ready(c) && ready(other) }, 20*time.Second, 20*time.Millisecond)
}

// A store that is full refuses what comes, keeps what it has, and takes more once there is
// room: nothing that was acknowledged is lost.
func TestLimits_AFullStoreLosesNothing(t *testing.T) {
	t.Parallel()
	n := devtest.StartNATSAccount(t, devtest.NATSLimits{ServerStorage: 4 << 20})
	small := func(c *stream.Config) {
		c.CredentialsFile = n.Credentials("admin", nil, nil)
		c.EventsMaxBytes, c.RetryMaxBytes, c.DeadMaxBytes, c.ChangesMaxBytes = 1<<20, 1<<20, 1<<20, 1<<20
	}
	c := connect(t, n.URL(), small)
	_ = c.EnsureTopology(t.Context()) // the gaps have no room
	stored := 0
	var err error
	for i := 0; err == nil; i++ {
		if err = c.Publish(t.Context(), someOf(t, i)); err == nil {
			stored++
		}
	}
	require.True(t, errors.Is(err, stream.ErrFull), err)
	require.ErrorIs(t, err, stream.ErrNotDurable)
	require.NoError(t, c.Ready(t.Context()), "what is stored can be delivered")
	all := map[string]bool{}
	events := consume(t, c)
	for len(all) < stored {
		m := events.next(t)
		all[m.ID()] = true
		require.NoError(t, m.Ack(t.Context()))
	}
	require.NoError(t, c.Publish(t.Context(), someOf(t, -1)), fmt.Sprint(stored, " were stored"))
}

// someOf is an envelope of some KiB for a realm of the second group of partitions.
func someOf(t *testing.T, n int) *ledgerfeedv1.Envelope {
	t.Helper()
	for r := 1; ; r++ {
		realm := fmt.Sprint(r)
		if envelope.Partition(realm)%stream.Groups != 1 {
			continue
		}
		e := env(realm, n)
		e.Events[0].Id = strings.Repeat("x", 20<<10)
		return e
	}
}

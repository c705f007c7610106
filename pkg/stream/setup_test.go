package stream_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

func verifies(c *stream.Config) { c.Setup = stream.SetupVerify }

// A service that only verifies creates nothing, whatever is missing, and says what to run.
func TestSetup_AServiceThatVerifiesCreatesNothing(t *testing.T) {
	t.Parallel()
	url := devtest.StartNATS(t, devserver.NATSOptions{}).URL()
	c := connect(t, url, verifies)
	ctx := t.Context()
	for _, err := range []error{c.EnsureTopology(ctx), c.EnsureChanges(ctx), c.EnsureHeartbeats(ctx), c.Ready(ctx)} {
		require.ErrorIs(t, err, stream.ErrNotSetUp)
		require.True(t, stream.Temporary(err), "the start waits for it")
		require.ErrorContains(t, err, "run `ledgerfeed setup`")
	}
	js := raw(t, url)
	for name := range js.StreamNames(ctx).Name() {
		require.Fail(t, "a stream was made", name)
	}

	job := connect(t, url)
	require.NoError(t, job.EnsureTopology(ctx))
	require.NoError(t, c.EnsureTopology(ctx))
	require.NoError(t, c.Ready(ctx))
	require.NoError(t, js.DeleteStream(ctx, stream.EventStream))
	require.ErrorIs(t, c.Ready(ctx), stream.ErrNotSetUp, "it is not created again either")
}

// A stream that keeps less than configured is named with its setting; one that keeps more is
// as good.
func TestSetup_AStreamThatDiffersFailsTheStart(t *testing.T) {
	t.Parallel()
	url := devtest.StartNATS(t, devserver.NATSOptions{}).URL()
	require.NoError(t, connect(t, url, func(c *stream.Config) { c.DeadMaxBytes = 8 << 20 }).EnsureTopology(t.Context()))
	err := connect(t, url, verifies, func(c *stream.Config) { c.DeadMaxBytes = 16 << 20 }).EnsureTopology(t.Context())
	require.ErrorIs(t, err, stream.ErrNotSetUp)
	require.ErrorContains(t, err, "stream LF_DEAD: max_bytes is 8388608")
	require.NoError(t, connect(t, url, verifies, func(c *stream.Config) { c.DeadMaxBytes = 4 << 20 }).EnsureTopology(t.Context()))
}

// A consumer that is missing fails readiness until the job has made it; messages are delivered
// then, without a restart.
func TestSetup_AConsumerIsWaitedFor(t *testing.T) {
	t.Parallel()
	url := devtest.StartNATS(t, devserver.NATSOptions{}).URL()
	job := connect(t, url)
	require.NoError(t, job.EnsureTopology(t.Context()))
	c := connect(t, url, verifies)
	o := stream.ConsumeOptions{Queue: stream.Group(3), Durable: stream.GroupDurable("processor", 3), Prioritized: true}
	ctx, cancel := context.WithCancel(t.Context())
	got, ended := make(chan *stream.Message, 100), make(chan error, 1)
	go func() { ended <- c.Consume(ctx, o, func(m *stream.Message) { got <- m }) }()
	defer func() { cancel(); require.NoError(t, <-ended) }()
	var err error
	require.Eventually(t, func() bool { err = c.Ready(t.Context()); return err != nil }, 20*time.Second, 5*time.Millisecond)
	require.ErrorIs(t, err, stream.ErrNotSetUp)
	require.ErrorContains(t, err, "consumer processor-03 of stream LF_EVENTS is missing")

	require.NoError(t, job.EnsureConsumers(t.Context(), o))
	require.NoError(t, job.EnsureConsumers(t.Context(), o), "it may be repeated")
	require.Eventually(t, func() bool { return c.Ready(t.Context()) == nil }, 20*time.Second, 5*time.Millisecond)
	for i := range 64 {
		require.NoError(t, job.Publish(t.Context(), env(string(rune('a'+i)), i)))
	}
	m := <-got
	require.NoError(t, m.Ack(t.Context()))
}

func TestConfig_NkeyFile(t *testing.T) {
	c := stream.DefaultConfig()
	c.NkeyFile = filepath.Join(t.TempDir(), "seed")
	_, err := stream.Connect(t.Context(), stream.Options{Config: c, Name: "ingress"})
	require.ErrorContains(t, err, "nats.nkey_file")
	require.NoError(t, os.WriteFile(c.NkeyFile, []byte("a secret that is no seed"), 0o600))
	_, err = stream.Connect(t.Context(), stream.Options{Config: c, Name: "ingress"})
	require.ErrorContains(t, err, "want one line that begins with SU")
	require.NotContains(t, err.Error(), "a secret that")
	c.User = "u"
	require.ErrorContains(t, c.Validate(), "give one of them")
}

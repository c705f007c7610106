package stream_test

import (
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

// Whoever may publish, and even who may call the JetStream API, can neither delete nor
// purge what was recorded, nor turn that off.
func TestActions_CanNeitherBeDeletedNorPurged(t *testing.T) {
	t.Parallel()
	c := stream.DefaultConfig()
	c.URL, c.Profile, c.ActionsMaxBytes = devtest.NATS(t), stream.Dev, 1<<20
	conn, err := stream.Connect(t.Context(), stream.Options{Config: c})
	require.NoError(t, err)
	defer conn.Close()
	for _, id := range []string{"one", "two", "two"} {
		_, err := conn.AppendAction(t.Context(), stream.ActionMessage{ID: id, Encode: func(*stream.StoredAction) ([]byte, error) { return []byte(id), nil }})
		require.NoError(t, err)
	}
	nc, err := nats.Connect(c.URL)
	require.NoError(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	s, err := js.Stream(t.Context(), stream.ActionStream)
	require.NoError(t, err)
	require.Error(t, s.DeleteMsg(t.Context(), 1))
	require.Error(t, s.SecureDeleteMsg(t.Context(), 1))
	require.Error(t, s.Purge(t.Context()))
	cfg := s.CachedInfo().Config
	cfg.DenyDelete, cfg.DenyPurge = false, false
	_, err = js.UpdateStream(t.Context(), cfg)
	require.Error(t, err)
	n, err := conn.CountActions(t.Context())
	require.NoError(t, err)
	require.Equal(t, 2, n, "one that is appended twice is there once")
	newest, err := conn.NewestActions(t.Context(), 0, 10)
	require.NoError(t, err)
	require.Equal(t, "two", string(newest[0].Data))
}

// Without a stream there is nothing to read, and reading makes none.
func TestActions_ReadingMakesNoStream(t *testing.T) {
	t.Parallel()
	c := stream.DefaultConfig()
	c.URL, c.Profile = devtest.NATS(t), stream.Dev
	conn, err := stream.Connect(t.Context(), stream.Options{Config: c})
	require.NoError(t, err)
	defer conn.Close()
	newest, err := conn.NewestActions(t.Context(), 0, 10)
	require.NoError(t, err)
	require.Empty(t, newest)
	require.NoError(t, conn.EachAction(t.Context(), func(stream.StoredAction) error { return nil }))
	n, err := conn.CountActions(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
}

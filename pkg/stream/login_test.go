package stream_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

// guarded is a server that asks for what o says.
func guarded(t *testing.T, o server.Options) (s *server.Server, reload func(server.Options)) {
	t.Helper()
	o.Host, o.Port, o.JetStream, o.StoreDir, o.NoSigs, o.NoLog = "127.0.0.1", server.RANDOM_PORT, true, t.TempDir(), true, true
	first := o
	s, err := server.NewServer(&first)
	require.NoError(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	require.True(t, s.ReadyForConnections(20*time.Second))
	return s, func(next server.Options) {
		next.Host, next.Port, next.JetStream, next.StoreDir, next.NoSigs, next.NoLog = first.Host, first.Port, true, o.StoreDir, true, true
		require.NoError(t, s.ReloadOptions(&next))
	}
}

// A password or a token is replaced at the server, which cuts the connection.
func TestConn_LogsInWithAnotherSecret(t *testing.T) {
	for _, tt := range []struct {
		name          string
		before, after server.Options
		config        func(*stream.Config, string)
	}{
		{
			"password", server.Options{Username: "feed", Password: "one"}, server.Options{Username: "feed", Password: "two"},
			func(c *stream.Config, text string) { c.User, c.Password = "feed", secret.String(text) },
		},
		{
			"token", server.Options{Authorization: "one"}, server.Options{Authorization: "two"},
			func(c *stream.Config, text string) { c.Token = secret.String(text) },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, reload := guarded(t, tt.before)
			cfg := config(s.ClientURL(), func(c *stream.Config) { tt.config(c, "wrong") })
			_, err := stream.Connect(t.Context(), stream.Options{Config: cfg, Name: "test"})
			require.ErrorIs(t, err, stream.ErrUnreachable)
			require.True(t, stream.Temporary(err), "it passes once the secret is replaced")

			tt.config(&cfg, "one")
			conn, err := stream.Connect(t.Context(), stream.Options{Config: cfg, Name: "test"})
			require.NoError(t, err)
			defer conn.Close()
			require.NoError(t, conn.EnsureTopology(t.Context()))
			reload(tt.after)
			require.Eventually(t, func() bool { return conn.Ready(t.Context()) != nil }, 20*time.Second, time.Millisecond)
			tt.config(&cfg, "two")
			conn.SetLogin(cfg)
			require.Eventually(t, func() bool { return conn.Ready(t.Context()) == nil }, 20*time.Second, 5*time.Millisecond)
		})
	}
}

func TestConfig_OneWayToLogIn(t *testing.T) {
	for name, change := range map[string]func(*stream.Config){
		"give one of them":  func(c *stream.Config) { c.User, c.Password, c.Token = "u", "p", "t" },
		"without nats.user": func(c *stream.Config) { c.Password = "p" },
	} {
		c := stream.DefaultConfig()
		change(&c)
		require.ErrorContains(t, c.Validate(), name)
	}
}

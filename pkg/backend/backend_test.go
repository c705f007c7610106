package backend_test

import (
	"context"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/backend"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// A rolling restart may meet a service that still waits for a server.
func TestStart_AskedToEndWhileItStarts(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	require.NoError(t, err)
	defer silent.Close()
	cfg := backend.DefaultConfig()
	cfg.NATS.URL = "nats://" + silent.Addr().String()
	cfg.Redis.URL = secret.String(devtest.RealRedis(t))
	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan error, 1)
	go func() {
		started <- backend.Start(ctx, "test", cfg, io.Discard, func(*backend.Backend) (func(context.Context) error, error) {
			panic("there is no broker")
		})
	}()
	waiting, err := silent.Accept()
	require.NoError(t, err)
	defer waiting.Close()
	cancel()
	require.NoError(t, <-started)
}

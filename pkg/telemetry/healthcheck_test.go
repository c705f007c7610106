package telemetry_test

import (
	"context"
	"errors"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

func TestHealthcheck_AsksTheServiceOfTheSameEnvironment(t *testing.T) {
	var reason error
	admin, err := telemetry.NewAdmin(telemetry.AdminOptions{
		Listen: ":0", Gatherer: telemetry.NewRegistry(""), Ready: func(context.Context) error { return reason },
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- admin.Run(ctx) }()
	_, port, err := net.SplitHostPort(admin.Addr())
	require.NoError(t, err)

	for _, host := range []string{"", "0.0.0.0", "localhost", "127.0.0.1"} {
		environ := []string{"LEDGERFEED_ADMIN_LISTEN=" + host + ":" + port, "LEDGERFEED_INGRESS_APPS=of another group", "HTTP_PROXY=http://127.0.0.1:1"}
		reason = nil
		require.NoError(t, telemetry.Healthcheck(t.Context(), environ))
		reason = errors.New("draining")
		require.EqualError(t, telemetry.Healthcheck(t.Context(), environ), "not ready: draining")
	}
	cancel()
	require.NoError(t, <-ended)
	err = telemetry.Healthcheck(t.Context(), []string{"LEDGERFEED_ADMIN_LISTEN=127.0.0.1:" + port})
	require.Equal(t, lifecycle.ExitUnreachable, lifecycle.ExitCode(err))
	require.ErrorContains(t, err, port)
}

func TestHealthcheck_NeedsAnEndpoint(t *testing.T) {
	for _, environ := range [][]string{{"LEDGERFEED_ADMIN_LISTEN=off"}, {"LEDGERFEED_ADMIN_LISTEN=9090"}, {"LEDGERFEED_ADMIN_LISEN=:1"}} {
		require.Equal(t, lifecycle.ExitUsage, lifecycle.ExitCode(telemetry.Healthcheck(t.Context(), environ)))
	}
}

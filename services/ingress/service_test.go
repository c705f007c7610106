package ingress_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
	"github.com/ledgerfeed/ledgerfeed/services/ingress"
)

// freeAddress is one nobody listens on at the moment.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

func TestServe_RunsTheService(t *testing.T) {
	secrets := filepath.Join(t.TempDir(), "apps")
	require.NoError(t, os.WriteFile(secrets, []byte(apps.Reveal()+"\n"), 0o600))
	address := freeAddress(t)
	environ := []string{
		"LEDGERFEED_NATS_URL=" + devtest.NATS(t),
		"LEDGERFEED_NATS_PROFILE=dev",
		"LEDGERFEED_NATS_EVENTS_MAX_BYTES=67108864",
		"LEDGERFEED_NATS_RETRY_MAX_BYTES=67108864",
		"LEDGERFEED_NATS_DEAD_MAX_BYTES=67108864",
		"LEDGERFEED_NATS_CHANGES_MAX_BYTES=67108864",
		"LEDGERFEED_INGRESS_LISTEN=" + address,
		"LEDGERFEED_INGRESS_APPS_FILE=" + secrets,
		"LEDGERFEED_ADMIN_LISTEN=" + freeAddress(t),
		"LEDGERFEED_LOG_LEVEL=error",
		"LEDGERFEED_PROCESSOR_SINKS=of another service",
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- ingress.Serve(ctx, environ) }()
	require.Eventually(t, func() bool { return telemetry.Healthcheck(ctx, environ) == nil }, 20*time.Second, 20*time.Millisecond)

	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Post("http://"+address+"/webhooks/demo", "", nil)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusUnauthorized, resp.StatusCode)

	stop()
	select {
	case err := <-ended:
		require.NoError(t, err)
	case <-time.After(20 * time.Second):
		t.Fatal("Serve did not return")
	}
	require.Equal(t, lifecycle.ExitUnreachable, lifecycle.ExitCode(telemetry.Healthcheck(t.Context(), environ)))
}

func TestServe_SaysWhatIsWrong(t *testing.T) {
	nobody, taken := freeAddress(t), devtest.NATS(t)
	for _, tc := range []struct {
		name    string
		environ []string
		code    int
		want    string
	}{
		{"no token", nil, lifecycle.ExitUsage, "LEDGERFEED_INGRESS_APPS"},
		{"misspelt", []string{"LEDGERFEED_INGRESS_APP=a=b"}, lifecycle.ExitUsage, "nearest is LEDGERFEED_INGRESS_APPS"},
		{"broker that syncs every two minutes", []string{"LEDGERFEED_INGRESS_APPS=a=b", "LEDGERFEED_NATS_URL=" + taken, "LEDGERFEED_NATS_PROFILE=single"}, lifecycle.ExitUsage, "nats.allow_mismatch"},
		{"no broker", []string{"LEDGERFEED_INGRESS_APPS=a=b", "LEDGERFEED_NATS_URL=nats://" + nobody}, lifecycle.ExitUnreachable, nobody},
		{"port in use", []string{"LEDGERFEED_INGRESS_APPS=a=b", "LEDGERFEED_NATS_URL=" + taken, "LEDGERFEED_INGRESS_LISTEN=" + taken[len("nats://"):]}, lifecycle.ExitFailed, "address already in use"},
		{"admin port in use", []string{"LEDGERFEED_INGRESS_APPS=a=b", "LEDGERFEED_NATS_URL=" + taken, "LEDGERFEED_INGRESS_LISTEN=127.0.0.1:0", "LEDGERFEED_ADMIN_LISTEN=" + taken[len("nats://"):]}, lifecycle.ExitFailed, "admin endpoint"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := ingress.Serve(t.Context(), append(profileDev(tc.environ), "LEDGERFEED_LOG_LEVEL=error",
				"LEDGERFEED_NATS_EVENTS_MAX_BYTES=67108864", "LEDGERFEED_NATS_RETRY_MAX_BYTES=67108864",
				"LEDGERFEED_NATS_DEAD_MAX_BYTES=67108864", "LEDGERFEED_NATS_CHANGES_MAX_BYTES=67108864"))
			require.ErrorContains(t, err, tc.want)
			require.Equal(t, tc.code, lifecycle.ExitCode(err))
		})
	}
}

// profileDev adds the profile of the test's broker where none is set.
func profileDev(environ []string) []string {
	for _, e := range environ {
		if strings.HasPrefix(e, "LEDGERFEED_NATS_PROFILE=") {
			return environ
		}
	}
	return append(environ, "LEDGERFEED_NATS_PROFILE=dev")
}

package ingress_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver"
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

// serve runs the service on a broker until stop, which returns what Serve did.
func serve(t *testing.T, broker string, more ...string) (environ []string, stop func() error) {
	t.Helper()
	environ = append(append(more, "LEDGERFEED_NATS_URL="+broker, "LEDGERFEED_NATS_PROFILE=dev", "LEDGERFEED_LOG_LEVEL=error"), small...)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- ingress.Serve(ctx, environ) }()
	stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(20 * time.Second):
			return errors.New("Serve did not return")
		}
	})
	t.Cleanup(func() { require.NoError(t, stop()) })
	require.Eventually(t, func() bool { return telemetry.Healthcheck(ctx, environ) == nil }, 20*time.Second, 20*time.Millisecond)
	return environ, stop
}

// small are streams that a test's broker has room for.
var small = []string{
	"LEDGERFEED_NATS_EVENTS_MAX_BYTES=67108864", "LEDGERFEED_NATS_RETRY_MAX_BYTES=67108864",
	"LEDGERFEED_NATS_DEAD_MAX_BYTES=67108864", "LEDGERFEED_NATS_CHANGES_MAX_BYTES=67108864",
}

func TestServe_RunsTheService(t *testing.T) {
	secrets := filepath.Join(t.TempDir(), "apps")
	require.NoError(t, os.WriteFile(secrets, []byte(apps.Reveal()+"\n"), 0o600))
	address := freeAddress(t)
	environ, stop := serve(t, devtest.NATS(t), "LEDGERFEED_ADMIN_LISTEN="+freeAddress(t),
		"LEDGERFEED_INGRESS_LISTEN="+address, "LEDGERFEED_INGRESS_APPS_FILE="+secrets, "LEDGERFEED_PROCESSOR_SINKS=of another service")

	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Post("http://"+address+"/webhooks/demo", "", nil)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusUnauthorized, resp.StatusCode)

	require.NoError(t, stop())
	require.Equal(t, lifecycle.ExitUnreachable, lifecycle.ExitCode(telemetry.Healthcheck(t.Context(), environ)))
}

// Without the broker the service is not ready and says why, is alive all the
// same, and is ready again by itself.
func TestServe_ReadinessFollowsTheBroker(t *testing.T) {
	broker, admin := devtest.NATS(t), freeAddress(t)
	proxy := devtest.NewProxy(t, strings.TrimPrefix(broker, "nats://"))
	serve(t, "nats://"+proxy.Addr(), "LEDGERFEED_ADMIN_LISTEN="+admin, "LEDGERFEED_INGRESS_LISTEN=127.0.0.1:0", "LEDGERFEED_INGRESS_APPS=a=verifier-token-1")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	get := func(path string) (status int, h struct {
		Status, Reason string
		Details        map[string]string
	}) {
		resp, err := client.Get("http://" + admin + path)
		require.NoError(t, err)
		defer resp.Body.Close()
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&h))
		return resp.StatusCode, h
	}
	becomes := func(want int) {
		t.Helper()
		require.Eventually(t, func() bool { status, _ := get("/readyz"); return status == want }, 30*time.Second, 50*time.Millisecond)
	}
	_, h := get("/readyz")
	require.Equal(t, "ready", h.Status)
	require.Equal(t, "dev", h.Details["profile"])

	proxy.Cut()
	becomes(http.StatusServiceUnavailable)
	_, h = get("/readyz")
	require.Equal(t, "not ready", h.Status)
	require.Contains(t, h.Reason, proxy.Addr())
	require.Equal(t, "dev", h.Details["profile"])
	alive, _ := get("/livez")
	require.Equal(t, http.StatusOK, alive)

	proxy.Restore()
	becomes(http.StatusOK)
}

// A broker that is away at the start is waited for: the process is alive, not ready, and
// says what is missing.
func TestServe_WaitsForABrokerThatIsAway(t *testing.T) {
	broker, admin := devtest.StartNATS(t, devserver.NATSOptions{}), freeAddress(t)
	broker.Stop()
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		served <- ingress.Serve(ctx, append([]string{
			"LEDGERFEED_NATS_URL=" + broker.URL(), "LEDGERFEED_NATS_PROFILE=dev", "LEDGERFEED_LOG_LEVEL=error",
			"LEDGERFEED_ADMIN_LISTEN=" + admin, "LEDGERFEED_INGRESS_LISTEN=127.0.0.1:0", "LEDGERFEED_INGRESS_APPS=a=verifier-token-1",
		}, small...))
	}()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	get := func(path string) (status int, body string) {
		resp, err := client.Get("http://" + admin + path)
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(text)
	}
	require.Eventually(t, func() bool {
		status, body := get("/readyz")
		return status == http.StatusServiceUnavailable && strings.Contains(body, broker.Addr())
	}, 20*time.Second, 20*time.Millisecond)
	status, _ := get("/livez")
	require.Equal(t, http.StatusOK, status)
	broker.Start()
	require.Eventually(t, func() bool { status, _ := get("/readyz"); return status == http.StatusOK }, 30*time.Second, 20*time.Millisecond)
	cancel()
	require.NoError(t, <-served)
}

func TestServe_SaysWhatIsWrong(t *testing.T) {
	taken := devtest.NATS(t)
	for _, tc := range []struct {
		name    string
		environ []string
		code    int
		want    string
	}{
		{"no token", nil, lifecycle.ExitUsage, "LEDGERFEED_INGRESS_APPS"},
		{"misspelt", []string{"LEDGERFEED_INGRESS_APP=a=b"}, lifecycle.ExitUsage, "nearest is LEDGERFEED_INGRESS_APPS"},
		{"broker that syncs every two minutes", []string{"LEDGERFEED_INGRESS_APPS=a=verifier-token-1", "LEDGERFEED_NATS_URL=" + taken, "LEDGERFEED_NATS_PROFILE=single"}, lifecycle.ExitUsage, "nats.allow_mismatch"},
		{"port in use", []string{"LEDGERFEED_INGRESS_APPS=a=verifier-token-1", "LEDGERFEED_NATS_URL=" + taken, "LEDGERFEED_INGRESS_LISTEN=" + taken[len("nats://"):]}, lifecycle.ExitFailed, "address already in use"},
		{"admin port in use", []string{"LEDGERFEED_INGRESS_APPS=a=verifier-token-1", "LEDGERFEED_NATS_URL=" + taken, "LEDGERFEED_INGRESS_LISTEN=127.0.0.1:0", "LEDGERFEED_ADMIN_LISTEN=" + taken[len("nats://"):]}, lifecycle.ExitFailed, "admin endpoint"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := ingress.Serve(t.Context(), append(append(profileDev(tc.environ), "LEDGERFEED_LOG_LEVEL=error"), small...))
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

// A rolling restart may meet a service that still waits for a broker (the chaos run
// with seed 243): it was asked to end, and that is no failed start.
func TestServe_AskedToEndWhileItStarts(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	require.NoError(t, err)
	defer silent.Close()
	ctx, cancel := context.WithCancel(t.Context()) // as a signal does: it sets no deadline
	served := make(chan error, 1)
	go func() {
		served <- ingress.Serve(ctx, []string{
			"LEDGERFEED_NATS_URL=nats://" + silent.Addr().String(), "LEDGERFEED_ADMIN_LISTEN=off",
			"LEDGERFEED_INGRESS_LISTEN=127.0.0.1:0", "LEDGERFEED_INGRESS_APPS=demo=verifier-token-one",
		})
	}()
	waiting, err := silent.Accept()
	require.NoError(t, err)
	defer waiting.Close() // not before the end: the client must not be what gives up
	cancel()
	require.NoError(t, <-served)
}

package ingress_test

import (
	"context"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
	"github.com/ledgerfeed/ledgerfeed/services/ingress"
)

func (b *bundle) reload(apps secret.String) error {
	c := ingress.DefaultIngressConfig()
	c.Apps = apps
	return b.server.Reload(c)
}

// A rotation: old, both, new. Nothing is refused that is signed with a token of
// the list, and the counter shows when the old one can go.
func TestServer_RotatesTokensWithoutARestart(t *testing.T) {
	b := setup(t, configured(func(c *ingress.IngressConfig) { c.Apps = "demo=" + oldToken }))
	matches := func(n string) float64 {
		return b.metric("ledgerfeed_ingress_token_matches_total", "app", "demo", "token", n)
	}
	require.Equal(t, 200, b.post(event("1", "1"), oldToken).status)
	require.Equal(t, 401, b.post(event("1", "1"), newToken).status)
	require.EqualValues(t, 1, matches("1"))

	require.NoError(t, b.reload("demo="+newToken+","+oldToken))
	require.Zero(t, matches("1")+matches("2"), "another list, other numbers")
	require.Equal(t, 200, b.post(event("1", "2"), oldToken).status)
	require.Equal(t, 200, b.post(event("1", "3"), newToken).status)
	require.EqualValues(t, 1, matches("1"))
	require.EqualValues(t, 1, matches("2"))

	require.NoError(t, b.reload("demo="+newToken+"; sandbox="+otherToken))
	require.Equal(t, 401, b.post(event("1", "4"), oldToken).status)
	require.Equal(t, 200, b.post(event("1", "4"), newToken).status)
	require.EqualValues(t, 1, matches("1"))
	require.Zero(t, matches("2"), "its series is gone")
	require.EqualValues(t, 2, b.metric("ledgerfeed_ingress_reloads_total", "outcome", "applied"))
}

func TestServer_KeepsTheTokensWhereTheNewCannotBeUsed(t *testing.T) {
	b := setup(t)
	for _, apps := range []secret.String{"", "demo", "demo=", "demo=a;demo=b", "de mo=a"} {
		err := b.reload(apps)
		require.ErrorContains(t, err, "ingress.apps", string(apps))
		require.Equal(t, 200, b.post(event("1", "1"), oldToken).status)
	}
	require.EqualValues(t, 5, b.metric("ledgerfeed_ingress_reloads_total", "outcome", "refused"))
}

// A request that is being worked on ends with the tokens it began with.
func TestServer_ARotationDoesNotTouchWhatIsInHand(t *testing.T) {
	h := newHeld()
	b := setup(t, h.with())
	status := make(chan int, 1)
	go func() {
		a, _ := b.send(b.request(event("1", "1"), oldToken))
		status <- a.status
	}()
	<-h.arrived
	require.NoError(t, b.reload("other="+otherToken))
	require.Equal(t, 404, b.post(event("1", "1"), oldToken).status, "the app is gone")
	close(h.release)
	require.Equal(t, 200, <-status)
}

// The service itself: a mounted secret is replaced, then SIGHUP after the file
// of settings was.
func TestServe_ReadsTheTokensAgain(t *testing.T) {
	// The service takes SIGHUP only once it runs; until then it would end the test.
	hangups := make(chan os.Signal, 100)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)

	dir := t.TempDir()
	file := filepath.Join(dir, "apps")
	require.NoError(t, os.WriteFile(file, []byte("demo=one\n"), 0o600))
	address := freeAddress(t)
	environ := []string{
		"LEDGERFEED_NATS_URL=" + devtest.NATS(t), "LEDGERFEED_NATS_PROFILE=dev",
		"LEDGERFEED_NATS_EVENTS_MAX_BYTES=67108864", "LEDGERFEED_NATS_RETRY_MAX_BYTES=67108864",
		"LEDGERFEED_NATS_DEAD_MAX_BYTES=67108864", "LEDGERFEED_NATS_CHANGES_MAX_BYTES=67108864",
		"LEDGERFEED_INGRESS_LISTEN=" + address, "LEDGERFEED_INGRESS_APPS_FILE=" + file,
		"LEDGERFEED_ADMIN_LISTEN=" + freeAddress(t), "LEDGERFEED_LOG_LEVEL=error",
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- ingress.Serve(ctx, environ) }()
	require.Eventually(t, func() bool { return telemetry.Healthcheck(ctx, environ) == nil }, 20*time.Second, 20*time.Millisecond)

	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	takes := func(token secret.String) bool {
		body := string(event("1", "1"))
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/webhooks/demo", strings.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("intuit-signature", webhook.Sign([]byte(body), token))
		resp, err := client.Do(req)
		require.NoError(t, err)
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}
	require.True(t, takes("one"))

	require.NoError(t, os.WriteFile(file+".new", []byte("demo=two\n"), 0o600))
	require.NoError(t, os.Rename(file+".new", file))
	require.Eventually(t, func() bool {
		now := time.Now()
		_ = os.Chtimes(file, now, now) // the watch may have begun after the change
		require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
		return takes("two")
	}, 20*time.Second, 100*time.Millisecond)
	require.False(t, takes("one"))

	// By the file alone, now that the watch runs.
	require.NoError(t, os.WriteFile(file, []byte("demo=two,three\n"), 0o600))
	require.Eventually(t, func() bool { return takes("three") }, 20*time.Second, 50*time.Millisecond)
	require.True(t, takes("two"))

	stop()
	require.NoError(t, <-ended)
}

package ingress_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
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

// The service itself: a mounted secret is replaced, and read again without being
// asked. SIGHUP from its start to its end reads again and ends nothing, and least
// of all a request that a drain waits for.
func TestServe_ReadsTheTokensAgain(t *testing.T) {
	file, address := filepath.Join(t.TempDir(), "apps"), freeAddress(t)
	require.NoError(t, os.WriteFile(file, []byte("demo=verifier-token-one\n"), 0o600))
	_, stop := serve(t, devtest.NATS(t), "LEDGERFEED_ADMIN_LISTEN="+freeAddress(t),
		"LEDGERFEED_INGRESS_LISTEN="+address, "LEDGERFEED_INGRESS_APPS_FILE="+file,
		"LEDGERFEED_INGRESS_BUDGET=2.9s", "LEDGERFEED_INGRESS_BODY_TIMEOUT=2.9s") // a busy machine takes its time between the headers and SIGHUP
	require.Equal(t, 200, postTo(t, address, "verifier-token-one"))

	require.NoError(t, os.WriteFile(file+".new", []byte("demo=verifier-token-two\n"), 0o600))
	require.NoError(t, os.Rename(file+".new", file))
	require.Eventually(t, func() bool { return postTo(t, address, "verifier-token-two") == 200 }, 20*time.Second, 50*time.Millisecond)
	require.Equal(t, 401, postTo(t, address, "verifier-token-one"))

	body := event("1", "1")
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "POST /webhooks/demo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nIntuit-Signature: %s\r\nExpect: 100-continue\r\n\r\n", len(body), webhook.Sign(body, "verifier-token-two"))
	require.NoError(t, err)
	reader := bufio.NewReader(conn)
	line, err := reader.ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "100 Continue") // it is in hand
	_, err = reader.ReadString('\n')
	require.NoError(t, err)
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	require.Eventually(t, func() bool {
		refused, err := net.Dial("tcp", address)
		if err == nil {
			refused.Close()
		}
		return err != nil
	}, 20*time.Second, time.Millisecond)
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	_, err = conn.Write(body)
	require.NoError(t, err)
	resp, err := http.ReadResponse(reader, nil)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, 200, resp.StatusCode)
	require.NoError(t, <-stopped)
}

// postTo is the status of a signed event at the app demo.
func postTo(t *testing.T, address string, token secret.String) int {
	t.Helper()
	body := event("1", "1")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/webhooks/demo", bytes.NewReader(body))
	require.NoError(t, err)
	req.Header.Set(webhook.SignatureHeader, webhook.Sign(body, token))
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	require.NoError(t, err)
	resp.Body.Close()
	return resp.StatusCode
}

// The program, told by a signal: its settings are those of a file that names
// others, and what cannot be used or needs a restart is said.
func TestProgram_ReadsAgainOnSIGHUP(t *testing.T) {
	dir := t.TempDir()
	one, two, settings := filepath.Join(dir, "one"), filepath.Join(dir, "two"), filepath.Join(dir, "settings.yaml")
	write := func(file, text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
	write(one, "demo=secret-number-one\n")
	write(two, "demo=secret-number-two\n")
	write(settings, "ingress:\n  apps_file: "+one+"\n")
	p := startProgram(t, devtest.NATS(t), "LEDGERFEED_INGRESS_APPS=", "LEDGERFEED_CONFIG="+settings, "LEDGERFEED_LOG_LEVEL=info")
	applied := func() float64 { return p.metric("ledgerfeed_ingress_reloads_total") }
	before := p.metric("ledgerfeed_ingress_last_reload_timestamp_seconds")
	require.Greater(t, before, 1.7e9)
	require.Equal(t, 200, postTo(t, p.addr, "secret-number-one"))

	require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
	require.Eventually(t, func() bool { return applied() == 1 }, 20*time.Second, 20*time.Millisecond)
	require.Greater(t, p.metric("ledgerfeed_ingress_last_reload_timestamp_seconds"), before)

	write(settings, "ingress:\n  apps_file: "+two+"\n  budget: 2s\n  access_log: 1\n")
	require.Eventually(t, func() bool { return postTo(t, p.addr, "secret-number-two") == 200 }, 20*time.Second, 50*time.Millisecond)
	write(two, "demo=secret-number-three\n") // another file than at the start
	require.Eventually(t, func() bool { return postTo(t, p.addr, "secret-number-three") == 200 }, 20*time.Second, 50*time.Millisecond)
	write(two, "secret-four\n")
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
	require.Eventually(t, func() bool { return strings.Contains(p.log(), "the old ones stay") }, 20*time.Second, 20*time.Millisecond)
	require.Equal(t, 200, postTo(t, p.addr, "secret-number-three"))
	require.Contains(t, p.log(), `"settings":["ingress.budget","ingress.access_log"]`)
	require.NotContains(t, p.log(), "secret-")
}

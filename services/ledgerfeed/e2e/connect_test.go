package e2e_test

import (
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// connectServer starts ledgerfeed connect and returns its address.
func (o *office) connectServer(args ...string) string {
	o.t.Helper()
	address := freeAddress(o.t)
	server := exec.Command("ledgerfeed", append([]string{"connect", "--listen", address}, args...)...)
	server.Env = append(server.Environ(), o.env...)
	var log buffer
	server.Stdout, server.Stderr = &log, &log
	require.NoError(o.t, server.Start())
	o.t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	require.Eventually(o.t, func() bool { return strings.Contains(log.String(), "/connect") }, time.Minute, 10*time.Millisecond, "%s", &log)
	return address
}

// ask sends a request under a host name and returns the status.
func ask(t *testing.T, method, address, path, host string, headers ...string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+address+path, http.NoBody)
	require.NoError(t, err)
	req.Host = host
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	client := http.Client{Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode
}

// Without a login nobody disconnects a company, imports a token, or learns which
// companies there are: neither directly nor through the proxy of the redirect URL.
func TestConnect_ServesNothingThatActs(t *testing.T) {
	t.Parallel()
	const id, host = "9341453000000001", "connect.example.com"
	o := newOffice(t, 0, id)
	_, refresh := o.sim.Connect(id)
	o.env = append(o.env, "LEDGERFEED_QBO_REDIRECT_URL=https://"+host+"/connect/callback")
	tokens := filepath.Join(o.dir, "tokens.csv")
	write(t, tokens, id+","+refresh.Reveal()+"\n")
	o.ok("token", "import", "--file", tokens, "--yes")
	before := o.show(id)
	require.Equal(t, "live", before.Connection)

	direct, proxied := o.connectServer(), o.connectServer("--behind-proxy")
	forwarded := []string{"X-Forwarded-For", "203.0.113.7"}
	for _, address := range []string{direct, proxied} {
		for _, name := range []string{host, address} {
			for _, headers := range [][]string{nil, forwarded} {
				for _, path := range []string{"/realms/" + id + "/disconnect", "/realms/" + id + "/disconnect?forget=true", "/realms/" + id + "/token", "/tokens"} {
					for _, method := range []string{http.MethodGet, http.MethodPost} {
						status := ask(t, method, address, path, name, headers...)
						require.Contains(t, []int{http.StatusNotFound, http.StatusForbidden}, status, "%s %s as %s %v", method, path, name, headers)
					}
				}
			}
		}
	}
	require.Equal(t, before, o.show(id))

	require.Equal(t, http.StatusSeeOther, ask(t, http.MethodGet, direct, "/connect", host))
	for _, header := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "Via"} {
		require.Equal(t, http.StatusForbidden, ask(t, http.MethodGet, direct, "/connect", host, header, "203.0.113.7"), header)
		require.Equal(t, http.StatusSeeOther, ask(t, http.MethodGet, proxied, "/connect", host, header, "203.0.113.7"), header)
	}
	require.Equal(t, http.StatusMisdirectedRequest, ask(t, http.MethodGet, proxied, "/connect", "evil.example"))
	require.Equal(t, http.StatusOK, ask(t, http.MethodGet, proxied, "/disconnected?realmId="+id, host, forwarded...))
}

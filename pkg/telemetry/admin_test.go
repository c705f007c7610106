package telemetry_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// start runs an admin endpoint and returns a function that gets a path.
func start(t *testing.T, ready func(context.Context) error) func(method, path string) (*http.Response, string) {
	t.Helper()
	return startWith(t, telemetry.AdminOptions{Ready: ready})
}

func startWith(t *testing.T, o telemetry.AdminOptions) func(method, path string) (*http.Response, string) {
	t.Helper()
	o.Listen, o.Gatherer, o.Logger = "127.0.0.1:0", telemetry.NewRegistry("v1.2.3"), zaptest.NewLogger(t)
	admin, err := telemetry.NewAdmin(o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- admin.Run(ctx) }()
	client := &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		cancel()
		require.NoError(t, <-ended)
	})
	return func(method, path string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+admin.Addr()+path, nil)
		require.NoError(t, err)
		resp, err := client.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp, string(body)
	}
}

func TestAdmin_AnswersEachPath(t *testing.T) {
	get := start(t, nil)
	for _, tc := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "/livez", 200, `{"status":"alive"}`},
		{"HEAD", "/livez", 200, ""},
		{"GET", "/readyz", 200, `{"status":"ready"}`},
		{"GET", "/metrics", 200, `ledgerfeed_build_info{version="v1.2.3"} 1`},
		{"GET", "/metrics", 200, "go_goroutines "},
		{"GET", "/debug/pprof/", 200, "heap"},
		{"GET", "/debug/pprof/goroutine?debug=1", 200, "goroutine profile"},
		{"GET", "/debug/pprof/cmdline", 200, "telemetry"},
		{"POST", "/livez", 405, ""},
		{"GET", "/", 404, ""},
	} {
		resp, body := get(tc.method, tc.path)
		require.Equal(t, tc.status, resp.StatusCode, "%s %s", tc.method, tc.path)
		require.Contains(t, body, tc.body)
	}
}

func TestAdmin_ReadyGivesTheReason(t *testing.T) {
	var reason error
	get := start(t, func(context.Context) error { return reason })

	reason = errors.New(`NATS at 10.0.0.1:4222 does not "answer"`)
	resp, body := get("GET", "/readyz")
	require.Equal(t, 503, resp.StatusCode)
	require.Equal(t, "application/json", resp.Header.Get("Content-Type"))
	require.JSONEq(t, `{"status":"not ready","reason":"NATS at 10.0.0.1:4222 does not \"answer\""}`, body)
	alive, _ := get("GET", "/livez")
	require.Equal(t, 200, alive.StatusCode, "a missing server is no reason to restart the process")

	reason = nil
	resp, _ = get("GET", "/readyz")
	require.Equal(t, 200, resp.StatusCode)
}

func TestAdmin_ReadyIsBounded(t *testing.T) {
	get := start(t, func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	})
	resp, body := get("GET", "/readyz")
	require.Equal(t, 503, resp.StatusCode)
	require.Contains(t, body, "deadline exceeded")
}

func TestAdmin_TakenPortIsAnErrorAtStart(t *testing.T) {
	first, err := telemetry.NewAdmin(telemetry.AdminOptions{Listen: "127.0.0.1:0", Gatherer: telemetry.NewRegistry("")})
	require.NoError(t, err)
	_, err = telemetry.NewAdmin(telemetry.AdminOptions{Listen: first.Addr(), Gatherer: telemetry.NewRegistry("")})
	require.ErrorContains(t, err, first.Addr())

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, first.Run(ended), "a context that ended already still closes the port")
	again, err := telemetry.NewAdmin(telemetry.AdminOptions{Listen: first.Addr(), Gatherer: telemetry.NewRegistry("")})
	require.NoError(t, err)
	require.NoError(t, again.Run(ended))
}

func TestAdmin_Off(t *testing.T) {
	admin, err := telemetry.NewAdmin(telemetry.AdminOptions{Listen: telemetry.Off})
	require.NoError(t, err)
	require.Empty(t, admin.Addr())
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, admin.Run(ended))
}

func TestAdminConfig_Validate(t *testing.T) {
	for listen, want := range map[string]string{
		"127.0.0.1:9090": "",
		":0":             "",
		"off":            "",
		"":               `admin.listen is "", want host:port, :port or off`,
		"9090":           `admin.listen is "9090", want host:port, :port or off`,
	} {
		err := telemetry.AdminConfig{Listen: listen}.Validate()
		if want == "" {
			require.NoError(t, err, listen)
		} else {
			require.EqualError(t, err, want)
		}
	}
	require.NoError(t, telemetry.DefaultAdminConfig().Validate())
}

// Profiles show memory and cost CPU: other machines get none unless they are told to, and
// neither does a page that makes its own name lead to this machine.
func TestAdmin_ServesProfilesOnLoopbackAlone(t *testing.T) {
	for name, tc := range map[string]struct {
		listen, host string
		pprof        bool
		want         int
	}{
		"loopback":              {"127.0.0.1:0", "", false, 200},
		"loopback, by name":     {"127.0.0.1:0", "localhost:9090", false, 200},
		"loopback, rebound":     {"127.0.0.1:0", "evil.example", false, 421},
		"rebound, turned on":    {"127.0.0.1:0", "evil.example", true, 421},
		"all addresses":         {":0", "", false, 404},
		"all addresses, wanted": {":0", "monitoring.example", true, 200},
	} {
		t.Run(name, func(t *testing.T) {
			admin, err := telemetry.NewAdmin(telemetry.AdminOptions{Listen: tc.listen, Pprof: tc.pprof, Gatherer: telemetry.NewRegistry("v1.2.3")})
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- admin.Run(ctx) }()
			_, port, err := net.SplitHostPort(admin.Addr())
			require.NoError(t, err)
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
			for _, path := range []string{"/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/heap"} {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:"+port+path, nil)
				require.NoError(t, err)
				req.Host = tc.host
				resp, err := client.Do(req)
				require.NoError(t, err)
				resp.Body.Close()
				require.Equal(t, tc.want, resp.StatusCode, path)
			}
			cancel()
			require.NoError(t, <-ended)
		})
	}
}

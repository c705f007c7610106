package backend_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/backend"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/reload"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
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
		started <- backend.Start(ctx, "test", reload.Fixed(cfg), io.Discard, func(*backend.Backend) (func(context.Context) error, error) {
			panic("there is no broker")
		})
	}()
	waiting, err := silent.Accept()
	require.NoError(t, err)
	defer waiting.Close()
	cancel()
	require.NoError(t, <-started)
}

// Servers that are away at the start are waited for, and all of them are named.
func TestStart_WaitsForServersThatAreAway(t *testing.T) {
	redis, nats := devtest.StartRealRedis(t), devtest.StartNATS(t, devserver.NATSOptions{})
	redis.Kill()
	nats.Stop()
	cfg := backend.DefaultConfig()
	cfg.NATS.URL, cfg.NATS.Profile, cfg.Redis.URL, cfg.Admin.Listen = nats.URL(), stream.Dev, secret.String(redis.URL()), freeAddress(t)
	cfg.QBO.ClientID, cfg.QBO.ClientSecret = "id", "secret"
	cfg.Connection.Keys = []secret.String{"k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}
	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan error, 1)
	go func() {
		started <- backend.Start(ctx, "test", reload.Fixed(cfg), io.Discard, func(*backend.Backend) (func(context.Context) error, error) {
			return func(ctx context.Context) error { <-ctx.Done(); return nil }, nil
		})
	}()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	get := func(path string) (status int, body string) {
		resp, err := client.Get("http://" + cfg.Admin.Listen + path)
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(text)
	}
	require.Eventually(t, func() bool {
		status, body := get("/readyz")
		return status == http.StatusServiceUnavailable && strings.Contains(body, nats.Addr()) && strings.Contains(body, strings.TrimSuffix(redis.URL()[8:], "/0"))
	}, 30*time.Second, 20*time.Millisecond)
	status, _ := get("/livez")
	require.Equal(t, http.StatusOK, status)
	redis.Start()
	require.Eventually(t, func() bool {
		_, body := get("/readyz")
		return strings.Contains(body, "nats") && !strings.Contains(body, "redis")
	}, 30*time.Second, 20*time.Millisecond)
	nats.Start()
	require.Eventually(t, func() bool { status, _ := get("/readyz"); return status == http.StatusOK }, 30*time.Second, 20*time.Millisecond)
	cancel()
	require.NoError(t, <-started)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

package reconciler_test

import (
	"context"
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/services/reconciler"
)

// environ is what the service needs, with one variable set otherwise.
func environ(b *bundle, other string) []string {
	name, _, _ := strings.Cut(other, "=")
	all := []string{
		"LEDGERFEED_ADMIN_LISTEN=127.0.0.1:0",
		"LEDGERFEED_CONNECTION_KEYS=test:" + base64.StdEncoding.EncodeToString(make([]byte, 32)),
		"LEDGERFEED_LOG_LEVEL=error",
		"LEDGERFEED_NATS_PROFILE=dev",
		"LEDGERFEED_NATS_URL=" + b.natsURL,
		"LEDGERFEED_QBO_BASE_URL=" + b.api.URL,
		"LEDGERFEED_QBO_CLIENT_ID=app",
		"LEDGERFEED_QBO_CLIENT_SECRET=hush",
		"LEDGERFEED_QBO_TOKEN_URL=" + b.api.URL + "/oauth2/v1/tokens/bearer",
		"LEDGERFEED_RECONCILER_START_JITTER=0s",
		"LEDGERFEED_RECONCILER_VERIFY_EVERY=10ms",
		"LEDGERFEED_REDIS_URL=" + b.redisURL,
	}
	all = slices.DeleteFunc(all, func(one string) bool { return strings.HasPrefix(one, name+"=") })
	return append(all, other)
}

func TestServe_ScansUntilItIsTold(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.clock.Advance(time.Since(b.clock.Now())) // the service's clock is the real one
	b.connect()
	b.create("Invoice")
	b.clock.Advance(10 * time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- reconciler.Serve(ctx, environ(b, "LEDGERFEED_RECONCILER_REALMS=2")) }()
	b.feed.waitFor(t, "Invoice")
	require.Eventually(t, func() bool { return !b.cursors()["Invoice"].IsZero() }, patient, 10*time.Millisecond)
	cancel()
	require.NoError(t, <-done)
}

func TestServe_SaysWhatKeepsItFromStarting(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, c := range []struct {
		name string
		env  string
		text string
		code int
	}{
		{"unknown field", "LEDGERFEED_RECONCILER_INTERVALL=1h", "LEDGERFEED_RECONCILER_INTERVAL", lifecycle.ExitUsage},
		{"wrong value", "LEDGERFEED_RECONCILER_REALMS=0", "reconciler.realms 0", lifecycle.ExitUsage},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := reconciler.Serve(t.Context(), environ(b, c.env))
			require.ErrorContains(t, err, c.text)
			require.Equal(t, c.code, lifecycle.ExitCode(err))
			require.NotContains(t, err.Error(), "hush")
		})
	}
}

func TestConfig_NamesWhatCannotBeUsed(t *testing.T) {
	t.Parallel()
	require.NoError(t, reconciler.DefaultReconcilerConfig().Validate())
	c := reconciler.DefaultReconcilerConfig()
	c.Interval, c.VerifyTimeout, c.LeaseTTL, c.Grace = 26*24*time.Hour, c.VerifyEvery, time.Millisecond, -time.Second
	c.QueryEntities = append(c.QueryEntities, "Invoice")
	err := c.Validate()
	for _, key := range []string{"interval 624h", "verify_timeout", "lease_ttl", "grace", "query_entities Invoice"} {
		require.ErrorContains(t, err, key)
	}
}

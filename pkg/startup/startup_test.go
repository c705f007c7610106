package startup_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/startup"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

func listen(t *testing.T) (*startup.Health, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	var group lifecycle.Group
	h, err := startup.Listen(t.Context(), startup.Options{Listen: telemetry.Off, Gatherer: prometheus.NewRegistry(), Logger: zap.New(core), Group: &group})
	require.NoError(t, err)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	t.Cleanup(func() { require.NoError(t, group.Run(ended)) })
	return h, logs
}

func temporary(err error) bool { return err.Error() != "for good" }

// What is missing is shown all the while, and logged once a minute.
func TestHealth_SaysWhatIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, logs := listen(t)
		require.ErrorContains(t, h.Ready(t.Context()), "starting")
		var answers atomic.Bool
		done := make(chan error, 1)
		try := func() error {
			if answers.Load() {
				return nil
			}
			return errors.New("connection refused")
		}
		go func() { done <- h.Wait(t.Context(), "redis", temporary, try) }()
		time.Sleep(150 * time.Second)
		synctest.Wait()
		require.ErrorContains(t, h.Ready(t.Context()), "starting for 2m30s; redis: connection refused")
		require.Equal(t, 3, logs.FilterMessage("startup waits for a server").Len())
		answers.Store(true)
		require.NoError(t, <-done)
		require.Equal(t, 1, logs.FilterMessage("server reachable; startup continues").Len())
		require.NotContains(t, h.Ready(t.Context()).Error(), "redis")

		own := errors.New("the broker does not answer")
		h.Started(func(context.Context) error { return own }, nil)
		require.ErrorIs(t, h.Ready(t.Context()), own)
	})
}

func TestHealth_DoesNotWaitForWhatStays(t *testing.T) {
	h, _ := listen(t)
	require.EqualError(t, h.Wait(t.Context(), "nats", temporary, func() error { return errors.New("for good") }), "for good")
	ctx, cancel := context.WithCancel(t.Context())
	err := h.Wait(ctx, "nats", temporary, func() error { cancel(); return errors.New("away") })
	require.EqualError(t, err, "away")
}

package telemetry_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

func TestReadiness_ChangesItsMindOnlyAfterSeveralChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var broken atomic.Bool
		r := telemetry.NewReadiness(telemetry.ReadinessOptions{Check: func(context.Context) error {
			if broken.Load() {
				return errors.New("no broker")
			}
			return nil
		}})
		require.ErrorContains(t, r.Ready(t.Context()), "starting")
		ctx, stop := context.WithCancel(t.Context())
		go func() { _ = r.Run(ctx) }()
		synctest.Wait()
		require.NoError(t, r.Ready(t.Context()), "the first check decides")
		step := func() { time.Sleep(time.Second); synctest.Wait() }

		broken.Store(true)
		step()
		step()
		require.NoError(t, r.Ready(t.Context()), "twice is not enough")
		broken.Store(false)
		step()
		broken.Store(true)
		step()
		step()
		require.NoError(t, r.Ready(t.Context()), "nor three times with one between")
		step()
		require.EqualError(t, r.Ready(t.Context()), "no broker (not ready for 0s)")
		step()
		require.EqualError(t, r.Ready(t.Context()), "no broker (not ready for 1s)")

		broken.Store(false)
		step()
		require.Error(t, r.Ready(t.Context()), "once is not enough")
		step()
		require.NoError(t, r.Ready(t.Context()))
		stop()
		synctest.Wait()
	})
}

// What hangs counts as a failure, and nobody who asks waits for it.
func TestReadiness_ACheckThatHangsIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := telemetry.NewReadiness(telemetry.ReadinessOptions{Check: func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}})
		ctx, stop := context.WithCancel(t.Context())
		go func() { _ = r.Run(ctx) }()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		require.ErrorContains(t, r.Ready(t.Context()), "deadline exceeded")
		stop()
		synctest.Wait()
	})
}

func TestAdmin_ReadyzShowsDetails(t *testing.T) {
	details := map[string]string{"profile": "single", "durability": "as the profile promises"}
	get := startWith(t, telemetry.AdminOptions{Details: func() map[string]string { return details }})
	_, body := get("GET", "/readyz")
	require.JSONEq(t, `{"status":"ready","details":{"profile":"single","durability":"as the profile promises"}}`, body)
}

package ingress_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/services/ingress"
)

func TestServer_BeatsOnlyWhileItTakesWebhooks(t *testing.T) {
	t.Parallel()
	var ready atomic.Bool
	var beats atomic.Int64
	setup(t, func(o *ingress.Options) {
		o.Ready = func(context.Context) error {
			if ready.Load() {
				return nil
			}
			return errors.New("the broker is away")
		}
		o.Beat = func(context.Context) error {
			if !ready.Load() {
				beats.Add(1000)
			}
			beats.Add(1)
			return errors.New("nobody is told, and it goes on")
		}
	})
	require.Never(t, func() bool { return beats.Load() > 0 }, 300*time.Millisecond, 10*time.Millisecond)
	ready.Store(true)
	require.Eventually(t, func() bool { return beats.Load() >= 2 }, time.Minute, 10*time.Millisecond)
	require.Less(t, beats.Load(), int64(1000))
}

// The service tells the broker, where the reconciler listens.
func TestServe_Beats(t *testing.T) {
	t.Parallel()
	broker := devtest.NATS(t)
	var heard atomic.Int64
	stop, err := connect(t, broker, nil, nil).Beats("ingress", func() { heard.Add(1) })
	require.NoError(t, err)
	defer stop()
	serve(t, broker, "LEDGERFEED_ADMIN_LISTEN="+freeAddress(t), "LEDGERFEED_INGRESS_LISTEN=127.0.0.1:0", "LEDGERFEED_INGRESS_APPS=demo=verifier-token-one")
	require.Eventually(t, func() bool { return heard.Load() > 0 }, time.Minute, 10*time.Millisecond)
}

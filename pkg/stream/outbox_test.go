package stream_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

// Whoever answers an Intuit that waits three seconds cannot wait for a socket
// that takes no bytes, or for a server that does not greet.
func TestConn_PublishEndsWithItsContextWhateverTheConnectionDoes(t *testing.T) {
	const patience = 200 * time.Millisecond
	for name, breaks := range map[string]func(*devtest.Proxy){
		"stalled":      func(p *devtest.Proxy) { p.Stall() },
		"no greetings": func(p *devtest.Proxy) { p.Stall(); p.Drop() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			proxy := devtest.NewProxy(t, host(t, b.url))
			conn := connect(t, "nats://"+proxy.Addr())
			require.NoError(t, conn.EnsureTopology(t.Context()))
			breaks(proxy)
			var publishers sync.WaitGroup
			end := time.Now().Add(3 * time.Second) // the first reconnect is well within
			publish := func(n int, f func(ctx context.Context) error) {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				began := time.Now()
				err := f(ctx)
				if took := time.Since(began); took > 10*patience || !errors.Is(err, stream.ErrNotDurable) {
					t.Errorf("message %d: after %s: %v", n, took, err)
				}
			}
			for i := range 4 {
				publishers.Go(func() {
					for n := 0; time.Now().Before(end) && !t.Failed(); n++ {
						publish(n, func(ctx context.Context) error { return conn.Publish(ctx, env(fmt.Sprint(i), n)) })
						publish(n, func(ctx context.Context) error {
							return conn.PublishDead(ctx, stream.DeadLetter{Reason: stream.ReasonUnreadable, ID: fmt.Sprint(i, n), Body: make([]byte, 4<<20)})
						})
					}
				})
			}
			publishers.Wait()
			require.Positive(t, conn.MaxBody())
			proxy.Unstall()
			require.Eventually(t, func() bool { return conn.Publish(t.Context(), env("1", 1)) == nil }, 30*time.Second, 10*time.Millisecond)
		})
	}
}

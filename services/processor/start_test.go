package processor_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// Redis or the broker goes away between the connection and the first step: the processor
// tries again until they are back, and ends nothing.
func TestProcessor_WaitsForServersThatAreAwayAtItsStart(t *testing.T) {
	t.Parallel()
	b := setup(t)
	redis, nats := newGate(t, hostOf(t, b.redisURL)), newGate(t, hostOf(t, b.natsURL))
	store := b.openState("redis://" + redis.address + "/0")
	connections := b.openConnections(store)
	core, logged := observer.New(zap.WarnLevel)
	o := b.options()
	o.State, o.Connections, o.QBO, o.Stream = store, connections, b.newClient(connections, store), b.dial("nats://"+nats.address)
	o.Logger = zap.New(core)
	redis.close()
	nats.close()
	p := b.run(o)
	waits := func(part string) func() bool {
		return func() bool {
			return logged.FilterMessage("startup step failed, will retry").FilterField(zap.String("part", part)).Len() > 0
		}
	}
	require.Eventually(t, waits("register sinks"), patient, 5*time.Millisecond)
	redis.open(t)
	require.Eventually(t, waits("delete old consumer"), patient, 5*time.Millisecond)
	nats.open(t)
	b.create("Bill", nil)
	b.deliver(p)
	b.requireEqual()
}

package processor_test

import (
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// A record of a connection that Redis lost is reported once; the events of the realm make
// no dead letters, for its scan finds them once a person has connected it again.
func TestLost_ARecordThatRedisLostMakesNoDeadLetters(t *testing.T) {
	t.Parallel()
	for name, traces := range map[string][]string{
		"the list":     {"lf:1:due:*", "lf:1:cur:*"},
		"the schedule": {"lf:1:realms", "lf:1:cur:*"},
		"the cursors":  {"lf:1:realms", "lf:1:due:*"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			core, logged := observer.New(zap.ErrorLevel)
			b.connections = b.openConnections(b.store, zap.New(core))
			require.NoError(t, b.store.Schedule(t.Context(), realm, b.clock.Now()))
			cursor := redis.Z{Member: "Bill", Score: float64(b.clock.Now().Unix())}
			require.NoError(t, b.store.Redis().ZAdd(t.Context(), state.Key("cur", realm), cursor).Err())
			b.forget(append(traces, "lf:1:conn:*")...)
			p := b.start()
			for i := range 20 {
				b.create("Bill", nil)
				b.publish(b.webhooks()...)
				b.publish(many(realm, fmt.Sprint(i), 3)...)
			}
			b.settle(p)
			require.Empty(t, b.dead())
			require.EqualValues(t, 20*4, p.Stats().Parked)
			require.Equal(t, 1, logged.FilterMessage("connection record lost").Len())
			lost, err := b.connections.Lost(t.Context())
			require.NoError(t, err)
			require.Equal(t, []string{realm}, lost)

			b.connect(realm)
			bill := b.create("Bill", nil)
			b.publish(b.webhooks()...)
			b.scan("a", "b")
			b.delivered(b.a, bill)
			b.settle(p)
			lost, err = b.connections.Lost(t.Context())
			require.NoError(t, err)
			require.Empty(t, lost)
			require.Empty(t, b.dead())
			b.requireEqual(b.a, b.b)
		})
	}
}

// Without cursors a first load follows, which shows no deletion of what CDC leaves out.
func TestLost_DeletionsThatNoLoadShowsAreKept(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.forget("lf:1:conn:*", "lf:1:cur:*")
	p := b.start()
	gone := many(realm, "deletions", 2)[0]
	for i, name := range []string{"Bill", "TimeActivity"} {
		gone.Events[i].Entity, gone.Events[i].Operation = name, ledgerfeedv1.Operation_OPERATION_DELETE
	}
	b.publish(gone)
	b.settle(p)
	dead := b.dead()
	require.Equal(t, []stream.Reason{stream.ReasonRealmNotConnected}, reasons(dead))
	require.Len(t, dead[0].Envelope.GetEvents(), 1)
	require.Equal(t, "TimeActivity", dead[0].Envelope.GetEvents()[0].GetEntity())
}

// forget deletes keys, as an eviction does.
func (b *bundle) forget(patterns ...string) {
	b.t.Helper()
	for _, pattern := range patterns {
		keys, err := b.store.Redis().Keys(b.t.Context(), pattern).Result()
		require.NoError(b.t, err)
		if len(keys) > 0 {
			require.NoError(b.t, b.store.Redis().Del(b.t.Context(), keys...).Err())
		}
	}
}

package processor_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

// The work of a replica that is killed moves to the other: what comes for its realms
// from then on soon, what it had in hand after the ack wait. Nothing is lost.
func TestService_WorkOfAKilledReplicaMoves(t *testing.T) {
	t.Parallel()
	const ackWait = 5 * time.Second
	b := setup(t)
	first, second := newService(t, b), newService(t, b)
	first.env = []string{"LEDGERFEED_PROCESSOR_ACK_WAIT=" + ackWait.String()}
	second.env = first.env
	realms := []string{}
	for i := range 24 {
		realms = append(realms, fmt.Sprintf("91303477%08d", i))
		b.connect(realms[i])
		b.grant(realms[i], time.Now())
	}
	tell := func() (last map[sink.Ref]int64) {
		last = map[sink.Ref]int64{}
		for _, r := range realms {
			ref, err := b.sim.Create(r, "Bill", nil)
			require.NoError(t, err)
			last[sink.Ref{Realm: r, Entity: "Bill", ID: ref.ID}] = b.sim.Truth(r)[ref].Version
		}
		b.publish(b.webhooks()...)
		return last
	}
	has := func(want map[sink.Ref]int64, services ...*service) bool {
		for ref, version := range want {
			found := false
			for _, s := range services {
				found = found || s.snapshot(t)[ref].Version == version
			}
			if !found {
				return false
			}
		}
		return true
	}
	kill := first.start(t)
	defer second.start(t)()
	owned := map[string]bool{} // realms of the first
	for deadline := time.Now().Add(patient); len(owned) == 0 || len(owned) == len(realms); {
		require.True(t, time.Now().Before(deadline), "one replica has all realms")
		want := tell()
		require.Eventually(t, func() bool { return has(want, first, second) }, patient, 10*time.Millisecond)
		clear(owned)
		for ref := range want {
			if first.snapshot(t)[ref].Version > 0 {
				owned[ref.Realm] = true
			}
		}
	}

	// The API takes its time, so that messages are in hand.
	b.sim.SetFaults(qbosim.Faults{Latency: 300 * time.Millisecond})
	inHand := tell()
	calls := b.calls()
	require.Eventually(t, func() bool { return b.calls() > calls }, patient, time.Millisecond)
	kill()
	killed := time.Now()
	b.sim.SetFaults(qbosim.Faults{})
	fresh := tell()
	require.Eventually(t, func() bool { return has(fresh, first, second) }, patient, 10*time.Millisecond)
	moved := time.Since(killed)
	require.Eventually(t, func() bool { return has(inHand, first, second) }, patient, 10*time.Millisecond)
	t.Logf("%d of %d realms moved: new events within %s, those in hand within %s (ack wait %s)",
		len(owned), len(realms), moved.Round(10*time.Millisecond), time.Since(killed).Round(10*time.Millisecond), ackWait)
}

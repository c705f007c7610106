package reconciler_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
	"github.com/ledgerfeed/ledgerfeed/services/reconciler"
)

// I4 and I8: whatever webhooks and scan events get lost, whichever calls fail and
// however the API lags, no cursor is ever past an undelivered change, and one
// scan that goes through repairs everything.
func TestProperty_AnySetOfLostEventsIsRepairedByOneScan(t *testing.T) {
	t.Parallel()
	shared := setup(t)
	rapid.Check(t, func(rt *rapid.T) {
		b := shared.another(rt)
		r := b.reconciler()
		loss := rapid.Float64Range(0, 1).Draw(rt, "loss")
		// After 100 days without a call the authorisation lapses, and the realm is
		// rightly parked: not what this is about.
		left := 95 * 24 * 60
		for range rapid.IntRange(1, 5).Draw(rt, "rounds") {
			for range rapid.IntRange(0, 40).Draw(rt, "changes") {
				ref := b.step()
				if rapid.Float64Range(0, 1).Draw(rt, "luck") >= loss {
					b.webhook(ref)
				}
				b.clock.Advance(time.Duration(rapid.IntRange(0, 3000).Draw(rt, "ms")) * time.Millisecond)
			}
			minutes := rapid.IntRange(0, min(40*24*60, left)).Draw(rt, "minutes")
			left -= minutes
			b.clock.Advance(time.Duration(minutes) * time.Minute)
			if rapid.Bool().Draw(rt, "scan") {
				lost := rapid.SampledFrom([]string{"", "Invoice", "Customer", "TimeActivity"}).Draw(rt, "lost")
				b.feed.losing(func(e *ledgerfeedv1.Event) bool { return e.GetEntity() == lost })
				faults := qbosim.Faults{Error5xx: rapid.SampledFrom([]float64{0, 0, 0.3}).Draw(rt, "errors")}
				grace := time.Duration(rapid.IntRange(0, 10).Draw(rt, "grace")) * time.Minute
				if grace > 0 {
					faults.ReadLag = time.Duration(rapid.IntRange(0, 110).Draw(rt, "lag")) * time.Second
				}
				b.sim.SetFaults(faults)
				b.request(r, reconciler.Request{Realms: []string{b.realm}, Grace: grace})
				b.requireHonest()
				b.sim.SetFaults(qbosim.Faults{})
			}
			if rapid.Bool().Draw(rt, "restart") {
				r = b.reconciler()
			}
		}
		b.clock.Advance(3 * time.Minute)
		b.feed.losing(nil)
		b.reconcile(r)
		b.requireEqual()
		b.requireHonest()
		require.Empty(rt, b.behind(), "every cursor has moved to the end")
	})
}

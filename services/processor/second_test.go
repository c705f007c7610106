package processor_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
)

// legacy posts a body of the legacy format about a record, whose times have whole seconds,
// as the ingress does.
func (b *bundle) legacy(ref qbosim.Ref) {
	b.t.Helper()
	body := fmt.Appendf(nil, `{"eventNotifications":[{"realmId":%q,"dataChangeEvent":{"entities":[{"name":%q,"id":%q,"operation":"Update","lastUpdated":%q}]}}]}`,
		realm, ref.Entity, ref.ID, b.clock.Now().UTC().Truncate(time.Second).Format("2006-01-02T15:04:05.000Z"))
	n, err := webhook.Parse(body)
	require.NoError(b.t, err)
	b.publish(envelope.FromNotification(body, n, envelope.Meta{App: "app", ReceivedAt: b.clock.Now()})...)
}

// Two updates within one second, told in two bodies of the legacy format: byte by byte the
// same.
func TestProcessor_TwoLegacyBodiesOfOneSecondAreTwo(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"Bill", "Customer"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			p := b.start()
			ref := b.create(name, nil)
			b.webhooks() // written by hand here
			b.legacy(ref)
			b.settle(p)
			b.requireEqual()
			b.clock.Advance(300 * time.Millisecond)
			require.NoError(t, b.sim.Update(ref, nil))
			b.webhooks()
			b.legacy(ref)
			b.settle(p)
			b.requireEqual()
		})
	}
}

// Intuit sends a body again that it thinks we have not got: that costs a read at most.
func TestProcessor_ALegacyBodyThatIsSentAgainCostsOneReadAtMost(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start()
	bill := b.create("Bill", nil)
	b.webhooks()
	b.legacy(bill)
	b.settle(p)
	calls := b.calls()
	for range 3 {
		b.clock.Advance(200 * time.Millisecond) // within the second of the event
		b.legacy(bill)
		b.settle(p)
	}
	require.LessOrEqual(t, b.calls()-calls, 3)
	require.Len(t, b.a.of(bill), 1)
	b.requireEqual()
}

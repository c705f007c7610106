package reconciler_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/services/reconciler"
)

// A sink that is added later gets nothing from the webhooks that came before
// it, however young their changes are, and what it gets is the load's.
func TestReconciler_LoadLeavesNothingToWebhooks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.clock.Advance(time.Hour)
	b.create("Invoice")
	gone := b.create("Invoice")
	require.NoError(t, b.sim.Delete(gone))
	b.clock.Advance(time.Minute)

	report := b.request(b.reconciler(), reconciler.Request{Grace: 5 * time.Minute, Wait: true})
	require.Zero(t, report.MissingCDC, "the load is told from what webhooks lost")
	require.Equal(t, 2, report.MissingQuery)
	b.requireEqual()
}

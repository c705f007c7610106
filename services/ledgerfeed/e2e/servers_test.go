package e2e_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
)

// With a Redis and a NATS of its own dev does the same, also when another data
// directory has left its realms there.
func TestDev_UsesServersThatRunElsewhere(t *testing.T) {
	t.Parallel()
	servers := []string{"--redis-url", devtest.RealRedis(t), "--nats-url", devtest.NATS(t), "--for", "2s", "--rate", "30", "--json"}
	startDev(t, t.TempDir(), servers...).equal()

	s := startDev(t, t.TempDir(), servers...).equal()
	// After a restart a scan may meet changes of this run before their webhooks; what was
	// there before, which is more, it must not take for missed.
	require.LessOrEqual(t, s.LearnedByCDC, s.Made)
}

package processor_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Redis loses all it had while the processor runs: scans find its sinks again without
// anybody's help. Chaos run, seed 6: no scan was ever made again.
func TestProcessor_SinksAreKnownAgainAfterRedisLostThem(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.start()
	known := func() bool {
		sinks, err := b.store.Sinks(t.Context())
		return err == nil && len(sinks) > 0
	}
	require.Eventually(t, known, patient, 10*time.Millisecond)
	require.NoError(t, b.store.Redis().FlushDB(t.Context()).Err())
	require.Eventually(t, known, patient, 50*time.Millisecond)
}

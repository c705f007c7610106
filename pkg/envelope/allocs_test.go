//go:build !race

package envelope_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
)

// A request of ten events over two realms, from its signature to the bytes for
// the stream. 22 were measured; what counts is that no event costs one of its own.
// (The race detector makes sync.Pool forget, so its figures say nothing.)
func TestReceive_AllocationsDoNotGrowWithTheEvents(t *testing.T) {
	for events, most := range map[int]float64{1: 16, 10: 24, 100: 28} {
		body := typical(events)
		signature := webhook.Sign(body, verifierToken)
		got := testing.AllocsPerRun(200, func() { receive(t, body, signature) })
		require.LessOrEqual(t, got, most, "%d events", events)
		t.Logf("%d events: %v allocations", events, got)
	}
}

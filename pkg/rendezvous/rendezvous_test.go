package rendezvous_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/rendezvous"
)

func replicas(n int) (ids []string) {
	for i := range n {
		ids = append(ids, fmt.Sprintf("replica-%d", i))
	}
	return ids
}

func TestLeaders_NoneHasMoreThanItsShare(t *testing.T) {
	for _, parts := range []int{16, 64} {
		for n := 1; n <= parts+4; n++ {
			led := map[string]int{}
			for part, leader := range rendezvous.Leaders(replicas(n), parts) {
				require.NotEmpty(t, leader, "part %d of %d replicas", part, n)
				led[leader]++
			}
			for _, r := range replicas(n) {
				require.LessOrEqual(t, led[r], (parts+n-1)/n, "%s of %d", r, n)
				require.GreaterOrEqual(t, led[r], parts/n, "%s of %d", r, n)
			}
		}
	}
}

func TestLeaders_AreTheSameForEverybody(t *testing.T) {
	ids := replicas(5)
	want := rendezvous.Leaders(ids, 16)
	slices.Reverse(ids)
	require.Equal(t, want, rendezvous.Leaders(ids, 16))
}

func TestLeaders_AReplicaThatComesMovesFewParts(t *testing.T) {
	for n := 1; n <= 12; n++ {
		before, after := rendezvous.Leaders(replicas(n), 64), rendezvous.Leaders(replicas(n+1), 64)
		moved := 0
		for p := range before {
			if before[p] != after[p] {
				moved++
			}
		}
		// Its own share, and what keeps the others even.
		require.LessOrEqual(t, moved, 64/2, "from %d replicas", n)
	}
}

func TestLeaders_OfNobody(t *testing.T) {
	require.Equal(t, []string{"", ""}, rendezvous.Leaders(nil, 2))
}

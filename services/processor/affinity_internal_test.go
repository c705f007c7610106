package processor

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

func replicasOf(n int) (ids []string) {
	for i := range n {
		ids = append(ids, fmt.Sprintf("replica-%d", i))
	}
	return ids
}

// leaders are the replicas that are first for each group.
func leaders(t *testing.T, replicas []string) (leaders [stream.Groups]string) {
	t.Helper()
	for _, self := range replicas {
		for g, p := range priorities(replicas, self) {
			if p != 0 {
				continue
			}
			require.Empty(t, leaders[g], "group %d has one leader", g)
			leaders[g] = self
		}
	}
	return leaders
}

func TestPriorities_EachGroupHasOneLeader(t *testing.T) {
	for n := 1; n <= 20; n++ {
		for g, leader := range leaders(t, replicasOf(n)) {
			require.NotEmpty(t, leader, "group %d of %d replicas", g, n)
		}
	}
}

// All but the first stand in a line, as far as the broker has places.
func TestPriorities_AreALine(t *testing.T) {
	replicas := replicasOf(4)
	for g := range stream.Groups {
		var line []int
		for _, self := range replicas {
			line = append(line, int(priorities(replicas, self)[g]))
		}
		slices.Sort(line)
		require.Equal(t, []int{0, 1, 2, 3}, line)
	}
}

func TestPriorities_OfAReplicaThatIsNotOnTheListYet(t *testing.T) {
	require.Equal(t, priorities([]string{"a", "b"}, "b"), priorities([]string{"a"}, "b"))
	require.Equal(t, [stream.Groups]uint8{}, priorities(nil, "a"))
}

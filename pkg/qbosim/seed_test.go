package qbosim_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
)

// Two feeds that share a database need realms of different ids, and must still
// be able to repeat each other's changes.
func TestSim_ChangesComeFromTheSeedNotTheRealmID(t *testing.T) {
	t.Parallel()
	books := func(seed uint64, realms ...string) []string {
		clock := newClock()
		sim, err := qbosim.New(qbosim.Options{Seed: seed, Now: clock.Now})
		require.NoError(t, err)
		defer func() { require.NoError(t, sim.Close()) }()
		var raw []string
		for _, id := range realms {
			sim.AddRealm(id)
		}
		for range 50 {
			for _, id := range realms {
				ref, err := sim.Step(id)
				require.NoError(t, err)
				history := sim.History(ref)
				raw = append(raw, string(history[len(history)-1].Raw))
			}
		}
		return raw
	}
	first := books(1, "93411", "93412")
	require.Empty(t, cmp.Diff(first, books(1, "70001", "70002")))
	require.NotEqual(t, first, books(2, "93411", "93412"))
	require.NotEqual(t, first[0], first[1], "the realms of a simulator differ")
}

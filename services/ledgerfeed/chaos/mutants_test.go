package chaos

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What is delivered holds no switch for a planted bug or a wrong clock.
func TestMutants_AreAbsentFromNormalBuilds(t *testing.T) {
	bin, err := build(t.Context(), "", t.Logf)
	require.NoError(t, err)
	for _, name := range services {
		plain, err := os.ReadFile(bin.plain[name])
		require.NoError(t, err)
		altered, err := os.ReadFile(bin.altered[name])
		require.NoError(t, err)
		for _, what := range []string{"CHAOS_BUG", "CHAOS_CLOCK", "CHAOS_CRASH", "CHAOS_CONTROL", "tombstone-dropped", "one-sweep-deletes", "sabotage.Names"} {
			require.False(t, bytes.Contains(plain, []byte(what)), "%s holds %s", name, what)
			require.True(t, bytes.Contains(altered, []byte(what)), "the build of %s that is to hold %s does not: this test would find nothing", name, what)
		}
	}
}

// Each planted bug is caught within a few seeds, by an invariant that it breaks.
func TestMutants_AreCaught(t *testing.T) {
	if !*plantBugs {
		t.Log("make chaos-mutants plants the bugs; here only the table is looked at")
	}
	for _, name := range Mutants() {
		m := mutants[name]
		require.Subset(t, Faults(), m.faults, name)
		require.Subset(t, Invariants, m.breaks, name)
		if !*plantBugs || *onlyBug != "" && *onlyBug != name {
			continue
		}
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(*mostSeeds) {
				o := DefaultOptions()
				o.Seed, o.Mutant, o.For, o.Settle, o.Dir = seed+1, name, 25*time.Second, 45*time.Second, os.TempDir()
				bin, err := build(t.Context(), "", t.Logf)
				require.NoError(t, err)
				result, err := one(t.Context(), o, o.Seed, bin)
				require.NoError(t, err)
				require.NoError(t, os.RemoveAll(result.Dir))
				t.Log(result)
				if slices.ContainsFunc(m.breaks, func(i string) bool { return len(result.Problems[i]) > 0 }) {
					fmt.Printf("| %s | %s | %d |\n", name, slices.Sorted(maps.Keys(result.Problems)), seed+1)
					return
				}
			}
			t.Errorf("%s is not caught within %d seeds", name, *mostSeeds)
		})
	}
}

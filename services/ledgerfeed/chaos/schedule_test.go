package chaos

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type drawn struct {
	name       string
	at, length time.Duration
	seed       uint64
}

func draw(seed uint64, length time.Duration) (all []drawn) {
	for _, p := range schedule(seed, length, catalogue()) {
		all = append(all, drawn{p.name, p.at, p.length, p.seed})
	}
	return all
}

func TestSchedule_ComesFromTheSeed(t *testing.T) {
	require.Equal(t, draw(7, time.Minute), draw(7, time.Minute))
	require.NotEqual(t, draw(7, time.Minute), draw(8, time.Minute))
}

func TestSchedule_KeepsItsBounds(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(300) {
		until := map[string]time.Duration{}
		plan := schedule(seed, time.Minute, catalogue())
		require.NotEmpty(t, plan)
		for _, p := range plan {
			seen[p.name] = true
			require.GreaterOrEqual(t, p.at, calmBefore)
			require.LessOrEqual(t, p.at+p.length, time.Minute-calmAfter, "%s of seed %d", p.name, seed)
			require.GreaterOrEqual(t, p.length, p.least)
			require.GreaterOrEqual(t, p.at, until[p.group], "two of group %s at once with seed %d", p.group, seed)
			until[p.group] = p.at + p.length
		}
	}
	for _, name := range Faults() {
		require.True(t, seen[name], "%s never comes", name)
	}
}

func TestSchedule_DisastersAreRareInALongRun(t *testing.T) {
	last, n := -disasterEvery, 0
	for _, p := range schedule(1, time.Hour, catalogue()) {
		if p.effects.forgets || p.effects.loses {
			require.GreaterOrEqual(t, p.at-last, disasterEvery)
			last, n = p.at, n+1
		}
	}
	require.GreaterOrEqual(t, n, 4)
}

func TestFaults_HaveNamesOfTheirOwn(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range catalogue() {
		require.False(t, seen[f.name], f.name)
		seen[f.name] = true
		require.NotEmpty(t, f.group, f.name)
		require.Positive(t, f.weight, f.name)
		require.LessOrEqual(t, f.least, f.most, f.name)
		require.NotNil(t, f.begin, f.name)
	}
}

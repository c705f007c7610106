package idset_test

import (
	"math"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/idset"
)

func TestSet_FindsWhatWasNotMarked(t *testing.T) {
	t.Parallel()
	const n = 100_000
	s := idset.New(10) // it grows
	for range 2 {
		for i := range n {
			s.Add(strconv.Itoa(i), uint32(i))
		}
	}
	s.Seal()
	require.Equal(t, n, s.Len())
	for i := range n {
		if i%1000 != 7 {
			require.True(t, s.Mark(strconv.Itoa(i)))
		}
	}
	require.False(t, s.Mark("another"))
	require.False(t, s.Has("another"))
	require.Equal(t, n/1000, s.Count(0, math.MaxUint32))
	require.Equal(t, 1, s.Count(1000, 2000))
	number, ok := s.Unmarked("1007")
	require.True(t, ok)
	require.EqualValues(t, 1007, number)
	for _, id := range []string{"1008", "another"} {
		_, ok = s.Unmarked(id)
		require.False(t, ok, id)
	}
	s.MarkBelow(1008)
	require.Equal(t, n/1000-2, s.Count(0, math.MaxUint32))
}

func TestSet_TheHigherNumberCounts(t *testing.T) {
	t.Parallel()
	for _, numbers := range [][]uint32{{1, 9}, {9, 1}} {
		s := idset.New(0)
		for _, n := range numbers {
			s.Add("a", n)
		}
		s.Seal()
		number, ok := s.Unmarked("a")
		require.True(t, ok)
		require.EqualValues(t, 9, number)
	}
}

func BenchmarkSet_Mark(b *testing.B) {
	const n = 1_000_000
	s := idset.New(n)
	for i := range n {
		s.Add(strconv.Itoa(i), 1)
	}
	s.Seal()
	b.ReportAllocs()
	for b.Loop() {
		s.Mark("777777")
	}
}

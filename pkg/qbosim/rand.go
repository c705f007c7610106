package qbosim

import (
	"hash/fnv"
	"io"
	"math/rand/v2"
	"strconv"
)

// draw is a generator for one question about one thing. Each question has its
// own, so that what is drawn for a record, a step or a webhook depends neither
// on the clock nor on what was drawn for the others.
func (s *Sim) draw(question string, about ...string) *rand.Rand {
	h := fnv.New128a()
	_, _ = io.WriteString(h, question)
	for _, part := range about {
		_, _ = io.WriteString(h, "\x00"+part)
	}
	var sum [16]byte
	h.Sum(sum[:0])
	var hi, lo uint64
	for i := range 8 {
		hi = hi<<8 | uint64(sum[i])
		lo = lo<<8 | uint64(sum[8+i])
	}
	return rand.New(rand.NewPCG(s.seed^hi, lo))
}

func count(n uint64) string { return strconv.FormatUint(n, 10) }

func pick[T any](rng *rand.Rand, from []T) T { return from[rng.IntN(len(from))] }

// chance is true in the given share of calls, and uses up one draw always.
func chance(rng *rand.Rand, share float64) bool { return rng.Float64() < share }

package processor

import (
	"math"
	"runtime/debug"
)

const (
	// gcPercent: what a batch makes is garbage a moment later, of a heap that is small
	// beside the limit. The usual 100 would collect many times a second.
	gcPercent = 400
	// memoryLimit is what the heap may grow to before the collector works harder, where
	// GOMEMLIMIT does not say.
	memoryLimit = 450 << 20
)

// limitMemory makes the collector work less while there is room. GOGC and GOMEMLIMIT, if
// set, say otherwise.
func limitMemory() {
	if debug.SetMemoryLimit(-1) == math.MaxInt64 {
		debug.SetMemoryLimit(memoryLimit)
	}
	if before := debug.SetGCPercent(gcPercent); before != 100 {
		debug.SetGCPercent(before)
	}
}

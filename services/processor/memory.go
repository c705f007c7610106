package processor

import (
	"math"
	"runtime/debug"
)

// gcPercent: what a batch makes is garbage a moment later, of a heap that is small
// beside the limit. The usual 100 would collect many times a second.
const gcPercent = 400

// collectLess makes the collector work less where GOMEMLIMIT bounds the memory. GOGC, if
// set, says otherwise.
func collectLess() {
	if debug.SetMemoryLimit(-1) == math.MaxInt64 {
		return
	}
	if before := debug.SetGCPercent(gcPercent); before != 100 {
		debug.SetGCPercent(before)
	}
}

package processor

import (
	"runtime/debug"

	"github.com/ledgerfeed/ledgerfeed/pkg/memlimit"
)

const (
	// gcPercent: what a batch makes is garbage a moment later, of a heap that is small
	// beside the limit. The usual 100 would collect many times a second.
	gcPercent = 400
	// memoryLimit is what the heap may grow to before the collector works harder, where
	// neither GOMEMLIMIT nor a cgroup says.
	memoryLimit = 450 << 20
)

// Memory says what the heap may grow to.
func (Config) Memory() memlimit.Options { return memlimit.Options{Default: memoryLimit} }

// collectLess makes the collector work less while there is room. GOGC, if set, says
// otherwise.
func collectLess() {
	if before := debug.SetGCPercent(gcPercent); before != 100 {
		debug.SetGCPercent(before)
	}
}

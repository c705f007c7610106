// Package memlimit keeps the heap below the memory that the container may take.
//
// The limit of the Go runtime follows the cgroup, version 1 or 2, with a tenth left for
// what the runtime does not count, also when the limit of the cgroup changes. GOMEMLIMIT, if
// set, says otherwise. GOMAXPROCS needs no such thing: the runtime reads the CPU limit
// itself since Go 1.25.
package memlimit

import (
	"context"
	"io/fs"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// Options say what a program needs. The zero value is a program that takes what it may.
type Options struct {
	// Default is the limit in bytes where neither GOMEMLIMIT nor a cgroup sets one; 0 is none.
	Default int64
	// Most is what the program takes at most: a larger limit gains nothing. 0 is not known.
	Most int64
	// Off says that GOMEMLIMIT is "off": there is to be no limit.
	Off bool
	// Root is the file system, but in tests.
	Root fs.FS
}

// Environment is the source of a limit that GOMEMLIMIT sets.
const Environment = "GOMEMLIMIT"

// Limit is the limit of this process.
type Limit struct {
	o      Options
	bytes  int64
	source string
}

// share is the part of the cgroup's limit that the heap may take.
const share = 0.9

// followEvery is how often the limit of the cgroup is read.
const followEvery = 30 * time.Second

// Set sets the limit.
func Set(o Options) *Limit {
	if o.Root == nil {
		o.Root = os.DirFS("/")
	}
	l := &Limit{o: o, bytes: debug.SetMemoryLimit(-1), source: Environment}
	if l.bytes == math.MaxInt64 && !o.Off { // else the runtime has read GOMEMLIMIT
		l.source = ""
		l.update()
	}
	return l
}

// Bytes is the limit, math.MaxInt64 for none.
func (l *Limit) Bytes() int64 { return l.bytes }

// Source is what set the limit: GOMEMLIMIT, cgroup, default or none.
func (l *Limit) Source() string { return l.source }

// update reports whether the limit has changed.
func (l *Limit) update() bool {
	if l.source == Environment {
		return false
	}
	before := l.bytes
	l.bytes, l.source = l.want()
	if l.bytes != before {
		debug.SetMemoryLimit(l.bytes)
	}
	return l.bytes != before
}

func (l *Limit) want() (int64, string) {
	if cgroup := cgroupLimit(l.o.Root); cgroup > 0 {
		bytes := int64(float64(cgroup) * share)
		if l.o.Most > 0 {
			bytes = min(bytes, l.o.Most)
		}
		return bytes, "cgroup"
	}
	if l.o.Default > 0 {
		return l.o.Default, "default"
	}
	return math.MaxInt64, "none"
}

// Run logs the limits, and follows the cgroup until ctx ends.
func (l *Limit) Run(ctx context.Context, log *zap.Logger) error {
	l.log(log)
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if l.update() {
				l.log(log)
			}
		}
	}
}

func (l *Limit) log(log *zap.Logger) {
	bytes := zap.Skip()
	if l.bytes != math.MaxInt64 {
		bytes = telemetry.Bytes(int(l.bytes))
	}
	log.Info("limits of the runtime", telemetry.Source(l.source), bytes, telemetry.Count(runtime.GOMAXPROCS(0)))
}

//go:build chaosmutants

package sabotage

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// Names are what CHAOS_BUG may be.
var Names = map[string]Bug{
	"answer-before-ack":                AnswerBeforeAck,
	"mark-before-write":                MarkBeforeWrite,
	"ack-before-mark":                  AckBeforeMark,
	"no-version-guard":                 NoVersionGuard,
	"ties-dropped":                     TiesDropped,
	"cursor-at-publish":                CursorAtPublish,
	"cursor-by-event":                  CursorByEvent,
	"truncated-accepted":               TruncatedAccepted,
	"max-deliver":                      MaxDeliver,
	"refresh-unleased":                 RefreshUnleased,
	"limiter-apart":                    LimiterApart,
	"tombstone-dropped":                TombstoneDropped,
	"deletion-unconfirmed":             DeletionUnconfirmed,
	"failed-read-is-evidence":          FailedReadIsEvidence,
	"tombstone-final":                  TombstoneFinal,
	"follow-up-dropped":                FollowUpDropped,
	"future-tombstone":                 FutureTombstone,
	"restored-without-force":           RestoredWithoutForce,
	"content-ignored":                  ContentIgnored,
	"token-ignored":                    TokenIgnored,
	"dead-letter-hides-all-sinks":      DeadLetterHidesAllSinks,
	"dead-letter-never-ends":           DeadLetterNeverEnds,
	"full-retry-blocks":                FullRetryBlocks,
	"unknown-company-letter-per-event": UnknownCompanyLetterPerEvent,
	"stale-read-covered":               StaleReadCovered,
	"one-sweep-deletes":                OneSweepDeletes,
	"invented-time-recent":             InventedTimeRecent,
	"refusal-forgotten":                RefusalForgotten,
	"refresh-on-every-401":             RefreshOnEvery401,
	"clock-of-replica":                 ClockOfReplica,
	"breaker-off":                      BreakerOff,
	"cursor-rewind-lost":               CursorRewindLost,
	"failover-stays":                   FailoverStays,
}

var (
	planted = Names[os.Getenv("CHAOS_BUG")]
	skew, _ = time.ParseDuration(os.Getenv("CHAOS_CLOCK"))
	deadly  = Point(os.Getenv("CHAOS_CRASH"))
	control = follow(os.Getenv("CHAOS_CONTROL"))
)

// orders are what the file of CHAOS_CONTROL says now.
type orders struct {
	path string
	jump atomic.Int64 // of the clock, beside skew
	stop atomic.Pointer[Point]
}

// controlPoll is how soon a change of the file is noticed.
const controlPoll = 20 * time.Millisecond

// follow reads the file of that path again and again; with "" there is none.
func follow(path string) *orders {
	o := &orders{path: path}
	if path != "" {
		go func() {
			last := ""
			for range time.Tick(controlPoll) {
				text, _ := os.ReadFile(path) // none yet: nothing is asked
				if string(text) != last {
					last = string(text)
					o.obey(last)
				}
			}
		}()
	}
	return o
}

// obey takes lines of "clock DURATION" and "stop POINT".
func (o *orders) obey(text string) {
	o.jump.Store(0)
	o.stop.Store(nil)
	for line := range strings.Lines(text) {
		what, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch what {
		case "clock":
			d, _ := time.ParseDuration(value)
			o.jump.Store(int64(d))
		case "stop":
			p := Point(value)
			o.stop.Store(&p)
		}
	}
}

// On reports whether the bug is planted.
func On(b Bug) bool { return planted == b }

// Apart is "", or with the bug planted a text of this process alone.
func Apart(b Bug) string {
	if planted == b {
		return "-" + strconv.Itoa(os.Getpid())
	}
	return ""
}

// Now is the clock of the process, wrong by CHAOS_CLOCK and by what CHAOS_CONTROL says.
func Now() time.Time {
	now := time.Now().Add(skew)
	// Only the wall clock jumps: time that passes is measured by another one. Seconds are
	// the bits above the 30 of nanoseconds where a time has both.
	seconds := control.jump.Load() / int64(time.Second)
	*(*uint64)(unsafe.Pointer(&now)) += uint64(seconds) << 30
	return now
}

// At ends the process by SIGKILL if the crash is planted here, after doing what
// belongs to the step; and stops it if CHAOS_CONTROL says so.
func At(p Point, first ...func()) {
	control.at(p)
	if p != deadly {
		return
	}
	for _, f := range first {
		f()
	}
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		_ = self.Kill()
	}
	select {} // nothing more is done
}

// at stops the process once, until somebody sends SIGCONT. The file PATH.stopped says
// that it stands.
func (o *orders) at(p Point) {
	want := o.stop.Load()
	if want == nil || *want != p || !o.stop.CompareAndSwap(want, nil) {
		return
	}
	_ = os.WriteFile(o.path+".stopped", []byte(p), 0o600)
	_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
}

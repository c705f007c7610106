//go:build chaosmutants

package sabotage

import (
	"os"
	"strconv"
	"time"
)

// Names are what CHAOS_BUG may be.
var Names = map[string]Bug{
	"answer-before-ack":  AnswerBeforeAck,
	"mark-before-write":  MarkBeforeWrite,
	"ack-before-mark":    AckBeforeMark,
	"no-version-guard":   NoVersionGuard,
	"ties-dropped":       TiesDropped,
	"cursor-at-publish":  CursorAtPublish,
	"cursor-by-event":    CursorByEvent,
	"truncated-accepted": TruncatedAccepted,
	"max-deliver":        MaxDeliver,
	"refresh-unleased":   RefreshUnleased,
	"limiter-apart":      LimiterApart,
	"tombstone-dropped":  TombstoneDropped,
}

var (
	planted = Names[os.Getenv("CHAOS_BUG")]
	skew, _ = time.ParseDuration(os.Getenv("CHAOS_CLOCK"))
	deadly  = Point(os.Getenv("CHAOS_CRASH"))
)

// On reports whether the bug is planted.
func On(b Bug) bool { return planted == b }

// Apart is "", or with the bug planted a text of this process alone.
func Apart(b Bug) string {
	if planted == b {
		return "-" + strconv.Itoa(os.Getpid())
	}
	return ""
}

// Now is the clock of the process, wrong by CHAOS_CLOCK.
func Now() time.Time { return time.Now().Add(skew) }

// At ends the process by SIGKILL if the crash is planted here, after doing what
// belongs to the step.
func At(p Point, first ...func()) {
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

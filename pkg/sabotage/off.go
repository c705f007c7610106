//go:build !chaosmutants

package sabotage

import "time"

// On reports whether the bug is planted: never in this build.
func On(Bug) bool { return false }

// Apart is "", or with the bug planted a text of this process alone.
func Apart(Bug) string { return "" }

// Now is the clock of the process.
func Now() time.Time { return time.Now() }

// At is where a crash can be planted: never in this build.
func At(Point, ...func()) {}

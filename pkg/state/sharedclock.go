package state

import (
	"sync"
	"time"
)

// SharedClock is Redis's clock, as it was last read, and the time that has passed since
// by our own. All replicas have the same, and one whose clock is wrong, or jumps, has it
// too: the time that passes is measured monotonically. While Redis does not answer it goes
// on from where it was: nothing can be written down then anyway.
type SharedClock struct {
	own func() time.Time

	mu   sync.Mutex // guards the rest
	at   time.Time  // by own, when it was read; zero: never
	read time.Time
}

// NewSharedClock makes a clock that is own until Redis's was read once.
func NewSharedClock(own func() time.Time) *SharedClock { return &SharedClock{own: own} }

// Now is the time.
func (c *SharedClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	own := c.own()
	if c.at.IsZero() {
		return own
	}
	return c.read.Add(own.Sub(c.at))
}

// Reading begins a reading of Redis's clock. The function it returns takes the result.
func (c *SharedClock) Reading() (took func(read time.Time)) {
	at := c.own()
	return func(read time.Time) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.at, c.read = at, read.UTC()
	}
}

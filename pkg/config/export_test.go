package config

import "time"

// PollEvery replaces the constant before Run, for tests that cannot wait so long.
func (w *Watch) PollEvery(d time.Duration) { w.poll = d }

// Look is what Run does after an event.
func (w *Watch) Look() (changed bool) { return w.look() }

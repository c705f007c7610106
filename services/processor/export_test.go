package processor

import "time"

// SetLagDelay shortens the wait for what the API does not show yet.
func (p *Processor) SetLagDelay(d time.Duration) { p.lagDelay = d }

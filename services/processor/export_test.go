package processor

import (
	"context"
	"time"
)

// SetPatience shortens the wait for what the API does not show yet, and for a
// server that fails on one record.
func (p *Processor) SetPatience(lagDelay time.Duration, poisonAfter int) {
	p.lagDelay, p.poisonAfter = lagDelay, poisonAfter
}

// SetRefusals is how often and how long a refusal is retried before the dead letter.
func (p *Processor) SetRefusals(after int, d time.Duration) { p.refusedAfter, p.refusedFor = after, d }

// SetWaitAfter is how often a message is tried before it steps aside.
func (p *Processor) SetWaitAfter(tries int) { p.waitAfter = tries }

// SetRememberEvery is how often Redis is asked whether it remembers.
func (p *Processor) SetRememberEvery(d time.Duration) { p.rememberEvery = d }

// InHand is how many messages were taken off the queues and are not settled.
func (p *Processor) InHand() int { return p.hand.count() }

// SetBehind is how often a sink that is behind is checked, and how long after the first
// note a realm is scanned for it.
func (p *Processor) SetBehind(every, after time.Duration) {
	p.behindEvery, p.behindAfter = every, after
}

// SetRoomDelay is how often a dead letter that waits for room is tried.
func (p *Processor) SetRoomDelay(d time.Duration) { p.roomDelay = d }

// EnlistAgain is one look at what is registered.
func (p *Processor) EnlistAgain(ctx context.Context) error { return p.enlistAgain(ctx) }

// SetAccessDelay is how often what waits for a company that Intuit refuses looks again.
func (p *Processor) SetAccessDelay(d time.Duration) { p.accessDelay = d }

// SetCompaniesEvery is how often sinks are told of companies.
func (p *Processor) SetCompaniesEvery(d time.Duration) { p.companies = d }

package processor

import (
	"context"
	"errors"

	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// waitAfter is how often a message that cannot be read is tried, for some ten
// seconds, before it steps aside.
const waitAfter = 5

// stepAside moves a message that cannot be read to the queue of those that wait, and
// reports whether it is gone. Where it was, a realm that cannot be read for long would
// hold up the others of its group once MaxAckPending of its messages wait for their
// next try; here it holds up none but its like (ADR 8). What waits for our own Redis
// stays: then nothing is delivered in any case.
func (p *Processor) stepAside(ctx context.Context, m *message, o outcome) bool {
	if m.waiting || m.tries() < p.waitAfter || errors.Is(o.unread, errPaused) {
		return false
	}
	log := p.log.With(telemetry.EnvelopeID(m.env.GetId()), telemetry.Realm(m.env.GetRealmId()))
	if err := p.stream.PublishWaiting(ctx, m.Message, m.env, p.firsts.history(m, o.unread.Error())); err != nil {
		log.Debug("message stays where it is", telemetry.Error(err))
		return false
	}
	p.count.putOff()
	if err := m.Ack(ctx); err != nil {
		log.Debug("message not acked, it comes again", telemetry.Error(err))
		return true
	}
	p.firsts.forget(m)
	log.Warn("message cannot be read, it waits aside and is tried again", telemetry.Error(o.unread))
	return true
}

// tries is how often the message was tried since it came to the events.
func (m *message) tries() int { return m.before + m.Delivered() }

package processor

import (
	"context"
	"errors"
	"slices"

	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/access"
	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// waitAfter is how often a message that cannot be read is tried, for some ten
// seconds, before it steps aside.
const waitAfter = 5

// stepAside moves a message that cannot be read to the queue of those that wait, and
// reports whether it is gone. Where it was, a realm that cannot be read for long would
// hold up the others of its group once MaxAckPending of its messages wait for their
// next try; here it holds up none but its like (ADR 8). If the queue has no room it is
// left to a scan, and what else is to be done with the message is not done yet. What
// waits for our own Redis stays: then nothing is delivered in any case.
func (p *Processor) stepAside(ctx context.Context, m *message, o *outcome) (gone bool) {
	// Where calls are used up, refused or without a token, more tries within minutes are
	// of no use.
	refused := errors.Is(o.unread, access.ErrWait)
	_, held := connection.RetryAfter(o.unread)
	soon := m.tries() < p.waitAfter && !held && !errors.Is(o.unread, state.ErrBudget) && !refused
	if m.waiting || soon || slices.ContainsFunc(o.unreads, func(u *unit) bool { return errors.Is(u.err, errPaused) }) {
		return false
	}
	log := p.log.With(telemetry.EnvelopeID(m.env.GetId()), telemetry.Realm(m.env.GetRealmId()))
	err := p.stream.PublishWaiting(ctx, m.Message, m.env, p.firsts.history(m, o.unread.Error()))
	if errors.Is(err, stream.ErrFull) && !m.retry {
		if err = p.leaveUnread(ctx, m, o); err == nil {
			o.again = nil
			return false
		}
	}
	if err != nil {
		log.Debug("message not deferred", telemetry.Error(err))
		return false
	}
	p.count.putOff()
	if err := m.Ack(ctx); err != nil {
		log.Debug("ack failed; message will be redelivered", telemetry.Error(err))
		return true
	}
	p.firsts.forget(m)
	level := zap.WarnLevel
	if refused {
		level = zap.DebugLevel // it was said once, for the company or the app
	}
	log.Log(level, "entity cannot be read; message deferred", telemetry.Error(o.unread))
	return true
}

// leaveUnread leaves what cannot be read of a message to a scan, for each sink.
func (p *Processor) leaveUnread(ctx context.Context, m *message, o *outcome) error {
	for s := range p.outputs {
		var units []*unit
		for _, u := range o.unreads {
			if u.sinks.has(s) {
				units = append(units, u)
			}
		}
		if len(units) == 0 {
			continue
		}
		if err := p.leaveToScan(ctx, m, o, s, units, o.unread); err != nil {
			return err
		}
	}
	return nil
}

// tries is how often the message was tried since it came to the events.
func (m *message) tries() int { return m.before + m.Delivered() }

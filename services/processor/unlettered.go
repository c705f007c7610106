package processor

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// roomDelay is how often a letter that waits for room is tried.
const roomDelay = 5 * time.Minute

// unconnected handles events of a realm that nobody connected: an app has one webhook URL
// for all its companies, so there may be any number of them. They are counted, and one
// letter a day says which company it is. Its first load brings everything but the
// deletions that neither CDC nor a load shows: a sink may hold such a record if Redis has
// forgotten the connection, so those are kept, and so is what a person requeued.
func (p *Processor) unconnected(ctx context.Context, m *message, d death) error {
	kept, rest := d, d
	kept.units, rest.units = nil, nil
	for _, u := range d.units {
		if u.replay() || u.unshown() {
			kept.units = append(kept.units, u)
		} else {
			rest.units = append(rest.units, u)
		}
	}
	if len(kept.units) > 0 {
		if err := p.storeLetter(ctx, m, kept); err != nil {
			return err
		}
	}
	if len(rest.units) == 0 {
		return nil
	}
	realm, app := m.env.GetRealmId(), m.env.GetApp()
	first, err := p.state.FirstUnconnected(ctx, app, realm)
	if err != nil {
		return paused(err)
	}
	if first || sabotage.On(sabotage.UnknownCompanyLetterPerEvent) {
		// A crash here costs the letter of the day, which only tells of the company.
		if err := p.storeLetter(ctx, m, rest); err != nil {
			return errors.Join(err, p.state.ForgetUnconnected(ctx, app, realm))
		}
	}
	p.count.unconnected(len(rest.events()))
	return nil
}

// events are the places of the events in the envelope.
func (d death) events() (events []int) {
	for _, u := range d.units {
		if !slices.Contains(events, u.index) {
			events = append(events, u.index)
		}
	}
	return events
}

// withoutLetter is for a letter that has no room. What a scan tries again is only
// counted: the sinks' marks lack it, so no cursor passes it. What nothing can deliver is
// only counted too. The rest waits for room where it holds up nobody.
func (p *Processor) withoutLetter(ctx context.Context, m *message, d death, full error) error {
	keep := d
	keep.units = nil
	left := 0
	var cursors map[string]time.Time
	for _, u := range d.units {
		switch {
		case u.replay():
		case d.reason == stream.ReasonUnknownEntity, d.reason == stream.ReasonNotFound, d.reason == stream.ReasonForeignApp:
			left++
			continue
		case d.reason == stream.ReasonRealmNotConnected, d.reason == stream.ReasonRetryFull:
		case u.scanned():
			if cursors == nil {
				var err error
				if cursors, err = p.state.Cursors(ctx, m.env.GetRealmId()); err != nil {
					return paused(err)
				}
			}
			if at, ok := cursors[u.entity]; !ok || !at.After(u.happened()) {
				left++
				continue
			}
		}
		keep.units = append(keep.units, u)
	}
	if left > 0 {
		p.count.unlettered(d.reason, left)
		p.tellFull(full)
	}
	if len(keep.units) == 0 {
		return nil
	}
	if err := p.stream.PublishDeadWaiting(ctx, p.letter(m, keep)); err != nil {
		return errors.Join(full, err)
	}
	return nil
}

// tellFull says once a minute that the dead letters are full.
func (p *Processor) tellFull(full error) {
	now := time.Now().UnixNano()
	if last := p.toldFull.Load(); now-last >= int64(time.Minute) && p.toldFull.CompareAndSwap(last, now) {
		p.log.Warn("no room for dead letters; scans will retry these changes", telemetry.Error(full))
	}
}

// moveLetter stores a letter that waited for room.
func (p *Processor) moveLetter(ctx context.Context, m *stream.Message, d stream.DeadLetter) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	err := p.stream.MoveDead(ctx, m, d)
	if err == nil {
		p.count.dead(d.Reason, max(1, len(d.Envelope.GetEvents())))
		return
	}
	p.log.Debug("dead letter waiting for room", telemetry.Error(err))
	delay := time.Duration(0)
	if errors.Is(err, stream.ErrFull) {
		delay = p.roomDelay
	}
	if err := m.Nak(delay); err != nil {
		p.log.Debug("nak failed", telemetry.Error(err))
	}
}

package processor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/ledgerfeed/ledgerfeed/pkg/access"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

const (
	settleTimeout = 10 * time.Second
	// releaseDelay: what a stopping replica gives back goes to another one soon.
	releaseDelay = 100 * time.Millisecond
	// maxSinkDelay bounds how long a sink that is back waits for what it missed. A
	// try while it is down costs no call.
	maxSinkDelay = time.Minute
)

// finish writes the outcome of every unit of the batch.
func (b *batch) finish() {
	for _, it := range b.all {
		for _, u := range it.units {
			u.version = max(u.version, it.verdict.change.GetVersion())
			if u.err == nil {
				it.conclude(u)
			}
			u.finish()
		}
	}
}

// conclude says what the sinks that lacked the effect of u made of the change.
func (it *item) conclude(u *unit) {
	for s := range u.sinks.each() {
		switch {
		case it.failed[s] != nil:
			u.failed = append(u.failed, sinkError{s, it.failed[s]})
		case it.verdict.change == nil && !it.left:
			// A step forgot it. To ack it would lose it.
			u.err = errUndecided
		}
	}
}

var errUndecided = errors.New("no step has decided on the event")

// outcome is what the units of a message add up to.
type outcome struct {
	again   error // put off as a whole: the soonest of the reasons
	delay   time.Duration
	unread  error         // why a unit of it could not be read
	unreads []*unit       // those that could not
	retry   map[int][]int // sink → events that it is to be given later
	dead    []death
	parked  int
}

// death is one reason to dead-letter some events of a message.
type death struct {
	reason stream.Reason
	detail string
	sink   string
	units  []*unit
}

// settle decides what becomes of a message: here and nowhere else.
//
// A parked realm's events are acked. Its cursors have not passed them, for a
// cursor moves only by verified scans, and the scan after the reconnect finds
// them (ADR 2). On the stream they would wait for a person, for weeks, in the
// place of what can be delivered.
func (p *Processor) settle(ctx context.Context, m *message) {
	o := m.outcome(p)
	stopping := ctx.Err() != nil
	// What was done is noted even if the drain is over.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	log := p.log.With(telemetry.EnvelopeID(m.env.GetId()), telemetry.Realm(m.env.GetRealmId()), telemetry.Attempt(m.tries()))

	if (len(o.retry) > 0 || len(o.dead) > 0) && p.erased(ctx, m.env.GetRealmId()) {
		o = outcome{parked: len(m.units)} // no queue and no letter keeps it
	}
	if o.unread != nil && !stopping && p.stepAside(ctx, m, &o) {
		return
	}
	if o.again == nil {
		o.again = p.handOn(ctx, m, &o)
		o.delay = stream.Delay(o.again, m.tries())
	}
	if o.again != nil {
		if stopping {
			o.delay = releaseDelay
		}
		p.putOff(m, o, log)
		return
	}
	p.count.parked(o.parked)
	if err := m.Ack(ctx); err != nil {
		log.Debug("ack failed; message will be redelivered", telemetry.Error(err))
		return
	}
	sabotage.At(sabotage.Acked)
	p.firsts.forget(m)
	log.Debug("message settled", telemetry.Count(len(m.units)))
}

func (m *message) outcome(p *Processor) outcome {
	o := outcome{retry: map[int][]int{}}
	again := func(err error, delay time.Duration) {
		if o.again == nil || delay < o.delay {
			o.again, o.delay = err, delay
		}
	}
	for _, u := range m.units {
		reason, permanent := stream.AsPermanent(u.err)
		switch {
		case permanent:
			o.bury(death{reason: reason, detail: u.err.Error(), units: []*unit{u}})
		case errors.Is(u.err, errParked):
			o.parked++
		case u.err != nil:
			again(u.err, stream.Delay(u.err, m.tries()))
			o.unread = u.err
			o.unreads = append(o.unreads, u)
		}
		for _, f := range u.failed {
			name := p.outputs[f.sink].Name()
			reason, permanent := stream.AsPermanent(f.err)
			switch {
			case permanent:
				o.bury(death{reason: reason, detail: f.err.Error(), sink: name, units: []*unit{u}})
			case m.retry:
				again(f.err, stream.DelayAtMost(f.err, m.Delivered(), maxSinkDelay))
			case !slices.Contains(o.retry[f.sink], u.index):
				o.retry[f.sink] = append(o.retry[f.sink], u.index)
			}
		}
	}
	return o
}

// bury adds to the death of the same reason, so that a message makes few letters. A body
// of names that QuickBooks does not know makes one, with what it says of the first.
func (o *outcome) bury(d death) {
	for i, other := range o.dead {
		same := other.detail == d.detail || d.reason == stream.ReasonUnknownEntity
		if other.reason == d.reason && other.sink == d.sink && same {
			o.dead[i].units = append(other.units, d.units...)
			return
		}
	}
	o.dead = append(o.dead, d)
}

// handOn gives away what does not stay with the message: to the retry queues of
// the sinks that did not take it, and to the dead letters. Each is acknowledged
// by the broker before the message is. What a full queue does not take is left to a
// scan: here it would hold up the other sinks and realms (ADR 16).
func (p *Processor) handOn(ctx context.Context, m *message, o *outcome) error {
	for s, events := range o.retry {
		name := p.outputs[s].Name()
		err := p.stream.PublishRetryWith(ctx, name, m.part(events), p.firsts.history(m, m.failure(s)))
		if errors.Is(err, stream.ErrFull) && !sabotage.On(sabotage.FullRetryBlocks) {
			if err := p.leaveToScan(ctx, m, o, s, m.failedAt(s), err); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("retry for sink %s: %w", name, err)
		}
		p.count.retry(name, len(events))
	}
	for _, d := range o.dead {
		bury := p.storeLetter
		switch d.reason {
		case stream.ReasonRealmNotConnected:
			bury = p.unconnected
		case stream.ReasonForeignApp:
			bury = p.foreign
		}
		if err := bury(ctx, m, d); err != nil {
			return err
		}
	}
	return nil
}

// storeLetter stores a dead letter, then notes for the reconciler that it need
// not wait for these versions any more: in this order, for the other one could
// lose a change.
func (p *Processor) storeLetter(ctx context.Context, m *message, d death) error {
	number, err := p.stream.StoreDead(ctx, p.letter(m, d))
	if errors.Is(err, stream.ErrFull) {
		return p.withoutLetter(ctx, m, d, err)
	}
	events := len(d.events())
	if err != nil {
		return fmt.Errorf("dead-letter %d events: %w", events, err)
	}
	var records []state.DeadRecord
	for _, u := range d.units {
		if !u.closes(d.reason) {
			continue
		}
		for s := range d.of(p, u).each() {
			records = append(records, state.DeadRecord{
				Ref: state.Ref{Entity: u.entity, ID: u.id}, Sink: p.outputs[s].Name(), Version: u.version, Letter: number,
			})
		}
	}
	if len(records) > 0 {
		if err := p.state.MarkDead(ctx, m.env.GetRealmId(), p.stream.DeadMaxAge(), records...); err != nil {
			return paused(err)
		}
	}
	p.count.dead(d.reason, events)
	p.log.Warn("change dead-lettered", telemetry.EnvelopeID(m.env.GetId()), telemetry.Realm(m.env.GetRealmId()),
		telemetry.Entity(d.units[0].entity), telemetry.EntityID(d.units[0].id), telemetry.Sink(d.sink),
		telemetry.Count(events), telemetry.Attempt(m.tries()),
		telemetry.Outcome(string(d.reason)), telemetry.Reason(d.detail))
	return nil
}

// letter is the dead letter of d.
func (p *Processor) letter(m *message, d death) stream.DeadLetter {
	events := d.events()
	past := p.firsts.history(m, d.detail)
	return stream.DeadLetter{
		// A repeated one is dropped by the broker; the same events replayed later
		// are another message.
		ID:     fmt.Sprintf("%s/%s/%s/%d", m.ID(), d.reason, d.sink, events[0]),
		Reason: d.reason, Detail: d.detail, Sink: d.sink,
		RealmID: m.env.GetRealmId(), App: m.env.GetApp(), Envelope: m.part(events),
		FirstError: past.FirstError, Attempts: past.Attempts, FirstSeen: past.FirstSeen, At: p.now(),
	}
}

// of are the sinks that did not get u: the one that refused it, or all that lacked it.
func (d death) of(p *Processor, u *unit) sinkSet {
	if s := p.output(d.sink); s >= 0 {
		return sinkSet(0).with(s)
	}
	return u.sinks
}

// closes reports whether the reconciler need not wait for the unit any more. It
// must wait where another try may succeed once a person has connected the realm or the
// entity can be read, and of a webhook nobody knows the version: a scan that finds one
// tries it once more, and that is then given up for good.
func (u *unit) closes(reason stream.Reason) bool {
	switch reason {
	case stream.ReasonRealmNotConnected, stream.ReasonForeignApp, stream.ReasonRetryFull:
		return false
	case stream.ReasonRefused:
		switch qbo.MeaningOf(u.err) {
		case qbo.MeaningCompanyAccess, qbo.MeaningEntityUnavailable, qbo.MeaningTransient:
			return false
		}
	}
	return u.version > 0
}

// part is the envelope with some of its events only.
func (m *message) part(events []int) *ledgerfeedv1.Envelope {
	slices.Sort(events)
	part := proto.CloneOf(m.env)
	part.Events = part.Events[:0]
	for _, i := range events {
		part.Events = append(part.Events, m.env.GetEvents()[i])
	}
	return part
}

// putOff gives the message back to the broker for another try.
func (p *Processor) putOff(m *message, o outcome, log *zap.Logger) {
	p.count.putOff()
	p.firsts.note(m, o.again)
	// One line for what lasts, not one for each try of each message.
	level := zap.DebugLevel
	if n := m.tries(); !m.retry && (n == 5 || n%20 == 0) && !errors.Is(o.again, access.ErrWait) {
		level = zap.WarnLevel
	}
	log.Log(level, "message will be retried", telemetry.After(o.delay), telemetry.Error(o.again))
	if err := m.Nak(p.hold(o.delay)); err != nil {
		// AckWait does the same later.
		log.Debug("nak failed", telemetry.Error(err))
	}
}

// refuse dead-letters a message that is no envelope for us, with its bytes.
func (p *Processor) refuse(ctx context.Context, m *stream.Message, cause error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	letter := stream.DeadLetter{Reason: stream.ReasonInvalidEnvelope, Detail: cause.Error(), Body: m.Data(), At: p.now()}
	if errors.Is(cause, errUnknownSink) {
		letter.Reason, letter.Body = stream.ReasonUnknownSink, nil // it is an envelope
	}
	err := p.stream.Dead(ctx, m, letter)
	if err == nil {
		p.count.dead(letter.Reason, 1)
		p.log.Warn("message dead-lettered", telemetry.Reason(cause.Error()), telemetry.Stream(m.Subject()))
		return
	}
	p.log.Warn("dead-lettering failed; message will be redelivered", telemetry.Error(err))
	if err := m.Nak(0); err != nil {
		p.log.Debug("nak failed", telemetry.Error(err))
	}
}

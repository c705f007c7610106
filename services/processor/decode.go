package processor

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// message is one message in hand: what it asks for, and what became of it.
type message struct {
	*stream.Message
	env *ledgerfeedv1.Envelope
	// retry says that it comes from the retry queue of its one sink.
	retry bool
	// waiting says that it comes from the queue of those that cannot be read, and
	// before is how often it was tried elsewhere.
	waiting bool
	before  int
	units   []*unit

	open    atomic.Int64 // units without an outcome
	settled func()       // called when there are none
}

// unit is what one event says about one entity. A merge says something about
// two, and is two units. Its outcome is written by the goroutine of its batch and
// read when the message is settled.
type unit struct {
	from  *message
	index int // of the event in the envelope

	entity, id string
	operation  ledgerfeedv1.Operation
	occurred   time.Time // zero if Intuit did not say
	version    int64     // what a scan saw; 0 for a webhook, until it is known
	hash       string    // of the document a scan saw; empty if it did not compare any
	mergedInto string    // the survivor, in the unit of the merged-away id
	evidence   ledgerfeedv1.Evidence

	sinks sinkSet // it is for; dedupe takes out those that have it

	// The outcome. err concerns the unit as a whole: nil is delivered or covered,
	// errParked, stream.Permanent, or anything else for another try. Where it is
	// nil, failed says which sinks did not take the change.
	err    error
	failed []sinkError
}

type sinkError struct {
	sink int
	err  error
}

func (u *unit) source() ledgerfeedv1.Source { return u.from.env.GetSource() }

func (u *unit) replay() bool { return u.source() == ledgerfeedv1.Source_SOURCE_REPLAY }

func (u *unit) restored() bool { return u.source() == ledgerfeedv1.Source_SOURCE_RESTORED }

func (u *unit) webhook() bool { return u.source() == ledgerfeedv1.Source_SOURCE_WEBHOOK }

func (u *unit) received() time.Time { return u.from.env.GetReceivedAt().AsTime() }

func (u *unit) attempt() int { return u.from.tries() }

func (u *unit) event() *ledgerfeedv1.Event { return u.from.env.GetEvents()[u.index] }

// when is when the change happened, as well as the event tells.
func (u *unit) when() time.Time {
	switch {
	case u.version > 0:
		return qbo.VersionTime(u.version)
	case !u.occurred.IsZero():
		return u.occurred
	}
	return u.received()
}

// finish says that the outcome is written.
func (u *unit) finish() {
	if u.from.open.Add(-1) == 0 {
		u.from.settled()
	}
}

// intake takes messages off one queue.
type intake struct {
	p     *Processor
	queue queue
}

// take is called for each message. It blocks only while there is no room: reading,
// writing and settling happen in goroutines that the drain waits for. What waits
// has none. No room is waited for after the end of taking; ctx is that of the work.
func (in intake) take(taking, ctx context.Context, m *stream.Message) {
	p := in.p
	leave, err := p.hand.enter(taking, m)
	if err != nil {
		// To another replica, if there is one with room.
		if err := m.Nak(crowdedDelay); err != nil {
			p.log.Debug("nak failed", telemetry.Error(err))
		}
		return
	}
	if letter, ok := m.Letter(); ok && in.queue.waiting {
		go func() {
			defer leave()
			p.moveLetter(ctx, m, letter)
		}()
		return
	}
	env, err := m.Envelope()
	if errors.Is(err, envelope.ErrNewer) {
		leave()
		p.postpone(m, err)
		return
	}
	if err == nil {
		err = p.known(env)
	}
	if err != nil {
		go func() {
			defer leave()
			p.refuse(ctx, m, err)
		}()
		return
	}
	if sabotage.On(sabotage.AckBeforeMark) {
		_ = m.Ack(ctx)
	}
	sabotage.At(sabotage.Delivered)
	msg := &message{Message: m, env: env, retry: in.queue.retry, waiting: in.queue.waiting}
	if msg.waiting {
		msg.before = p.waitAfter
	}
	msg.settled = func() {
		go func() {
			defer leave()
			p.settle(ctx, msg)
		}()
	}
	msg.units = msg.decode(p.sinksOf(env, in.queue.sinks))
	if len(msg.units) == 0 {
		msg.settled()
		return
	}
	msg.open.Store(int64(len(msg.units)))
	p.lanes.add(ctx, msg.units)
}

// newerDelay is how long a message stays away that only a newer version understands:
// a replica of that version is there, or will be when the upgrade goes on.
const newerDelay = 10 * time.Second

// postpone leaves a message to a replica of a newer version.
func (p *Processor) postpone(m *stream.Message, why error) {
	p.count.newer.Inc()
	if m.Delivered()%20 == 1 {
		p.log.Warn("message left for a newer processor version", telemetry.Stream(m.Subject()), telemetry.Error(why))
	}
	if err := m.Nak(newerDelay); err != nil {
		p.log.Debug("nak failed", telemetry.Error(err))
	}
}

var errUnknownSink = errors.New("the envelope is for a sink that is not configured")

// known refuses an envelope for a sink that nobody here writes to.
func (p *Processor) known(env *ledgerfeedv1.Envelope) error {
	if name := env.GetSink(); name != "" && p.output(name) < 0 {
		return errUnknownSink
	}
	return nil
}

func (p *Processor) sinksOf(env *ledgerfeedv1.Envelope, all sinkSet) sinkSet {
	if i := p.output(env.GetSink()); i >= 0 {
		return sinkSet(0).with(i)
	}
	return all
}

// decode makes the units of the message, in the order of its events.
func (m *message) decode(sinks sinkSet) []*unit {
	units := make([]*unit, 0, len(m.env.GetEvents()))
	for i, e := range m.env.GetEvents() {
		u := &unit{
			from: m, index: i,
			entity: entity.Canonical(e.GetEntity()), id: e.GetEntityId(),
			operation: e.GetOperation(), version: e.GetVersion(), hash: e.GetContentHash(), evidence: e.GetEvidence(), sinks: sinks,
		}
		if t := e.GetOccurredAt(); t != nil {
			u.occurred = t.AsTime()
		}
		units = append(units, u)
		if away := e.GetMergedId(); e.GetOperation() == ledgerfeedv1.Operation_OPERATION_MERGE && away != "" && away != u.id {
			merged := *u
			merged.id, merged.mergedInto = away, u.id
			merged.operation = ledgerfeedv1.Operation_OPERATION_DELETE
			units = append(units, &merged)
		}
	}
	return units
}

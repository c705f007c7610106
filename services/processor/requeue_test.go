package processor_test

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// requeue has the one dead letter there is delivered.
func (b *bundle) requeue(p running) {
	b.t.Helper()
	dead := b.dead()
	require.Len(b.t, dead, 1)
	_, err := b.conn.Requeue(b.t.Context(), dead[0])
	require.NoError(b.t, err)
	b.settle(p)
}

func TestProcessor_ARequeuedLetterGoesToItsSinkAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.b.misbehave(func(context.Context, []*ledgerfeedv1.Change) error {
		return stream.Permanent(stream.ReasonSinkRefused, errors.New("NUL"))
	})
	bill := b.create("Bill", nil)
	p := b.start()
	b.deliver(p)
	require.Equal(t, 1, b.a.count())
	require.Zero(t, b.b.count())

	b.requeue(p)
	require.Equal(t, 2, b.dead()[0].Attempts, "refused again")
	b.b.misbehave(nil)
	b.requeue(p)
	require.Empty(t, b.dead())
	require.Equal(t, 1, b.a.count(), "the other one has it")
	require.Equal(t, fromReplay, b.b.last(t, bill).GetSource())
	b.requireEqual()
}

func TestProcessor_ARequeueIsNotSwallowedByTheMarks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	bill, gone := b.create("Bill", nil), b.create("Bill", nil)
	envs := b.webhooks()
	p := b.start()
	b.publish(envs...)
	b.settle(p)
	require.NoError(t, b.sim.Delete(gone))
	b.deliver(p)
	require.Equal(t, 3, b.a.count())

	for i, e := range envs {
		letter := stream.DeadLetter{ID: e.GetId(), Reason: stream.ReasonPoison, RealmID: realm, Envelope: e, At: b.clock.Now().Add(time.Duration(i))}
		require.NoError(t, b.conn.PublishDead(t.Context(), letter))
		b.requeue(p)
	}
	for _, s := range []*memory{b.a, b.b} {
		require.Len(t, s.of(bill), 2)
		require.Len(t, s.of(gone), 3, "it gets the tombstone again")
		s.requireOrdered(t)
	}
	require.Empty(t, b.dead())
	b.requireEqual()
}

// A replay read together with an event that is no newer is a replay all the same:
// by that word a sink takes the version it has.
func TestProcessor_AReplayAmongOtherEventsIsOne(t *testing.T) {
	t.Parallel()
	b := setup(t)
	bill := b.create("Bill", nil)
	p := b.start()
	b.deliver(p)
	p.stop()

	event := b.event(fromWebhook, &ledgerfeedv1.Event{Entity: "Bill", EntityId: bill.ID, Operation: updated})
	b.clock.Advance(time.Second)
	replay := b.event(fromReplay, &ledgerfeedv1.Event{Entity: "Bill", EntityId: bill.ID, Operation: updated})
	replay.Sink = "a"
	b.publish(event, replay)
	b.config.CoalesceWindow = time.Second
	b.settle(b.start())
	require.Len(t, b.a.of(bill), 2)
	require.Equal(t, fromReplay, b.a.of(bill)[1].GetSource())
	require.Len(t, b.b.of(bill), 1)
}

func TestProcessor_ADeadLetterTellsTheFirstErrorAndTheLast(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tries := 0
	b.b.misbehave(func(context.Context, []*ledgerfeedv1.Change) error {
		switch tries++; tries {
		case 1:
			return errors.New("disk on fire")
		case 2:
			return errors.New("disk still on fire")
		}
		return stream.Permanent(stream.ReasonSinkRefused, errors.New("disk has burnt down"))
	})
	b.create("Bill", nil)
	p := b.start()
	began := time.Now()
	b.deliver(p)
	dead := b.dead()
	require.Len(t, dead, 1)
	require.Equal(t, "disk on fire", dead[0].FirstError, "on the events, before the retry queue")
	require.Equal(t, "disk has burnt down", dead[0].Detail)
	require.Equal(t, 3, dead[0].Attempts)
	require.WithinDuration(t, began, dead[0].FirstSeen, time.Second*30)

	b.requeue(p)
	dead = b.dead()
	require.Equal(t, "disk on fire", dead[0].FirstError)
	require.Equal(t, 4, dead[0].Attempts)
}

func TestProcessor_ADeadLetterOfTheEventsTellsTheFirstError(t *testing.T) {
	t.Parallel()
	b := setup(t)
	bill := b.create("Bill", nil)
	b.sim.SetFaults(qbosim.Faults{Poison: []qbosim.Ref{bill}})
	var failed atomic.Int64
	fails := func(*http.Request) bool { return failed.Add(1) <= 2 }
	b.broken.Store(&fails)
	p := b.start()
	b.deliver(p)
	dead := b.dead()
	require.Len(t, dead, 1)
	require.Equal(t, stream.ReasonPoison, dead[0].Reason)
	require.Contains(t, dead[0].FirstError, "500")
	require.NotEqual(t, dead[0].FirstError, dead[0].Detail)
	require.Greater(t, dead[0].Attempts, 1)
}

func TestProcessor_AnEnvelopeForAnUnknownSinkIsADeadLetterUntilItIsKnown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	bill := b.create("Bill", nil)
	b.webhooks() // lost
	p := b.start()
	env := b.event(fromReplay, &ledgerfeedv1.Event{Entity: "Bill", EntityId: bill.ID, Operation: updated})
	env.Sink = "later"
	b.publish(env)
	b.settle(p)
	dead := b.dead()
	require.Len(t, dead, 1)
	require.Equal(t, stream.ReasonUnknownSink, dead[0].Reason)
	require.Equal(t, "later", dead[0].Sink)
	require.Equal(t, realm, dead[0].RealmID)
	require.Len(t, dead[0].Envelope.GetEvents(), 1)
	p.stop()

	o := b.options()
	later := newMemory("later")
	o.Sinks = append(o.Sinks, later)
	b.requeue(b.run(o))
	require.Len(t, later.of(bill), 1)
	require.Zero(t, b.a.count())
}

// A letter of one sink says nothing of another, and nothing at all once it is delivered.
func TestProcessor_ARequeuedLetterLeavesNoRecord(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"Bill", "Customer", "TimeActivity"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.b.misbehave(func(context.Context, []*ledgerfeedv1.Change) error {
				return stream.Permanent(stream.ReasonSinkRefused, errors.New("no"))
			})
			p := b.start()
			ref := b.create(name, nil)
			b.deliver(p)
			letters := b.dead()
			require.Len(t, letters, 1)
			require.Equal(t, "b", letters[0].Sink)
			recorded := func(sink string) int64 {
				dead, err := b.store.Dead(t.Context(), realm, sink, []state.Ref{{Entity: name, ID: ref.ID}})
				require.NoError(t, err)
				return dead[0].Version
			}
			require.Equal(t, latest(t, b, ref).Version, recorded("b"))
			require.Zero(t, recorded("a"))
			b.b.misbehave(nil)
			b.requeue(p)
			b.requireEqual()
			require.Empty(t, b.dead())
			require.Zero(t, recorded("b"), "no letter is left, and every sink has it")
		})
	}
}

// A letter about all sinks is recorded for those that there are.
func TestProcessor_ALetterOfAllSinksIsNoneOfALaterOne(t *testing.T) {
	t.Parallel()
	b := setup(t)
	bill := b.create("Bill", nil)
	b.webhooks()
	b.sim.SetFaults(qbosim.Faults{Poison: []qbosim.Ref{bill}})
	p := b.start()
	version := latest(t, b, bill).Version
	b.publish(b.event(fromCDC, &ledgerfeedv1.Event{Entity: "Bill", EntityId: bill.ID, Operation: updated, Version: version}))
	b.settle(p)
	require.Equal(t, []stream.Reason{stream.ReasonPoison}, reasons(b.dead()))
	for sink, want := range map[string]int64{"a": version, "b": version, "later": 0} {
		dead, err := b.store.Dead(t.Context(), realm, sink, []state.Ref{{Entity: "Bill", ID: bill.ID}})
		require.NoError(t, err)
		require.Equal(t, want, dead[0].Version, sink)
	}
	b.sim.SetFaults(qbosim.Faults{})
	b.requeue(p)
	b.requireEqual()
	dead, err := b.store.Dead(t.Context(), realm, "a", []state.Ref{{Entity: "Bill", ID: bill.ID}})
	require.NoError(t, err)
	require.Zero(t, dead[0].Version)
}

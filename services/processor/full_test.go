package processor_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// setupSmall is setup with small streams, and few messages under way.
func setupSmall(t *testing.T, change func(*stream.Config)) *bundle {
	t.Helper()
	b := setup(t, change)
	b.config.MaxAckPending = 64
	return b
}

// limited is a client that calls for a realm as long as allow returns nil.
func (b *bundle) limited(allow func(realm string) error) *qbo.Client {
	b.t.Helper()
	client, err := qbo.New(qbo.Options{BaseURL: b.api.URL, Tokens: b.connections, Limiter: budget{b.store.Limiter(unlimited), allow}})
	require.NoError(b.t, err)
	return client
}

type budget struct {
	qbo.Limiter
	allow func(realm string) error
}

func (l budget) Acquire(ctx context.Context, realm string, p qbo.Priority) (func(), error) {
	if err := l.allow(realm); err != nil {
		return nil, err
	}
	return l.Limiter.Acquire(ctx, realm, p)
}

// many is one body about n bills that QuickBooks does not have.
func many(realmID, seed string, n int) []*ledgerfeedv1.Envelope {
	var events []*ledgerfeedv1.Event
	for i := range n {
		events = append(events, &ledgerfeedv1.Event{Id: fmt.Sprintf("%s-%d-%s", seed, i, strings.Repeat("x", 40)), Entity: "Bill", EntityId: fmt.Sprint(100000 + i), Operation: updated})
	}
	return envelope.New(fromWebhook, realmID, seed, events, envelope.Meta{App: "app"})
}

// fillRetry fills the retry queue of a sink with events of a record.
func (b *bundle) fillRetry(sink string, ref qbosim.Ref) {
	b.t.Helper()
	for _, n := range []int{400, 20, 1} {
		for i := 0; ; i++ {
			env := many(ref.Realm, fmt.Sprint("fill ", n, " ", i), n)[0]
			for _, e := range env.GetEvents() {
				e.Entity, e.EntityId = ref.Entity, ref.ID
			}
			if err := b.conn.PublishRetry(b.t.Context(), sink, env); err != nil {
				require.ErrorIs(b.t, err, stream.ErrFull)
				break
			}
		}
	}
}

// fillDead fills the dead letters, or the share of them that a reason may have.
func (b *bundle) fillDead(reason stream.Reason, realmOf func(int) string) {
	b.t.Helper()
	for _, n := range []int{100, 10, 1} {
		for i := 0; ; i++ {
			seed := fmt.Sprint("dead ", reason, n, " ", i)
			d := stream.DeadLetter{ID: seed, Reason: reason, RealmID: realmOf(i), Envelope: many(realmOf(i), seed, n)[0], At: b.clock.Now()}
			if err := b.conn.PublishDead(b.t.Context(), d); err != nil {
				require.ErrorIs(b.t, err, stream.ErrFull)
				break
			}
		}
	}
}

func someRealm(i int) string { return fmt.Sprint(880000 + i) }

// delivered waits until the sink has the record as it is.
func (b *bundle) delivered(s *memory, ref qbosim.Ref) {
	b.t.Helper()
	require.Eventually(b.t, func() bool { return s.all()[ref].GetVersion() == latest(b.t, b, ref).Version }, patient, 5*time.Millisecond,
		"sink %s waits for %v; it has %d changes", s.name, ref, s.count())
}

func refuseAll(context.Context, []*ledgerfeedv1.Change) error { return errors.New("down") }

// scan publishes what a scan of the realm would: what some sink lacks.
func (b *bundle) scan(sinks ...string) {
	b.t.Helper()
	for ref, truth := range b.sim.Truth(realm) {
		for _, sink := range sinks {
			if b.marks(sink, ref.Entity, ref.ID).Version >= truth.Version {
				continue
			}
			b.publish(b.event(fromCDC, &ledgerfeedv1.Event{
				Entity: ref.Entity, EntityId: ref.ID, Operation: updated, Version: truth.Version, OccurredAt: timestamppb.New(truth.LastUpdated),
			}))
			break
		}
	}
}

// unschedule takes all realms off the schedule.
func (b *bundle) unschedule() {
	b.t.Helper()
	shards := make([]int, state.Shards)
	for i := range shards {
		shards[i] = i
	}
	realms, err := b.store.ClaimDue(b.t.Context(), shards, -time.Hour, time.Hour, 100)
	require.NoError(b.t, err)
	for _, r := range realms {
		require.NoError(b.t, b.store.Done(b.t.Context(), r, state.Never))
	}
}

func (b *bundle) behind(sink string) map[string]state.Behind {
	b.t.Helper()
	notes, _, err := b.store.Behind(b.t.Context(), sink, 0)
	require.NoError(b.t, err)
	all := map[string]state.Behind{}
	for _, n := range notes {
		all[n.Realm+" "+n.Entity] = n
	}
	return all
}

func TestFull_CompaniesThatAreNotConnectedStopNoOther(t *testing.T) {
	t.Parallel()
	b := setupSmall(t, func(c *stream.Config) { c.DeadMaxBytes = 1 << 20 })
	stranger := neighbour()
	p := b.start()
	bill := b.create("Bill", nil)
	b.deliver(p)
	for i := range 40 { // 40 × 32 KiB: more than LF_DEAD takes
		b.publish(many(stranger, fmt.Sprint("s", i), 400)...)
	}
	for i := range 200 { // and then some single events
		b.publish(many(stranger, fmt.Sprint("t", i), 1)...)
	}
	b.clock.Advance(time.Minute)
	require.NoError(t, b.sim.Update(bill, nil))
	b.publish(b.webhooks()...)
	b.delivered(b.a, bill)
	b.settle(p)
	require.Len(t, b.dead(), 1, "one a day")
	require.EqualValues(t, 40*400+200, b.metric("ledgerfeed_processor_events_unconnected_total"))
}

// Each company and each day has its letter, and no first load brings the deletions of
// what CDC leaves out.
func TestFull_OneLetterADayTellsOfACompanyThatIsNotConnected(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start()
	for _, stranger := range []string{"4711", "4712", "4711"} {
		b.publish(many(stranger, fmt.Sprint(time.Now().UnixNano()), 3)...)
		b.settle(p)
	}
	require.Len(t, b.dead(), 2)
	b.clock.Advance(24 * time.Hour)
	b.publish(many("4711", "tomorrow", 1)...)
	b.settle(p)
	require.Len(t, b.dead(), 3)

	gone := many("4711", "deletions", 4)[0]
	for i, name := range []string{"Bill", "TimeActivity", "Vendor", "JournalCode"} {
		gone.Events[i].Entity, gone.Events[i].Operation = name, ledgerfeedv1.Operation_OPERATION_DELETE
	}
	b.publish(gone)
	b.settle(p)
	dead := b.dead()
	require.Len(t, dead, 4)
	var kept []string
	for _, e := range dead[0].Envelope.GetEvents() {
		kept = append(kept, e.GetEntity())
	}
	require.Equal(t, []string{"TimeActivity", "JournalCode"}, kept)
	require.EqualValues(t, 9+1+2, b.metric("ledgerfeed_processor_events_unconnected_total"))
}

func TestFull_ASinkThatIsDownForLongStopsNoOther(t *testing.T) {
	t.Parallel()
	b := setupSmall(t, func(c *stream.Config) { c.RetryMaxBytes = 1 << 20 })
	b.connect(other)
	b.b.misbehave(refuseAll)
	p := b.start()
	bill := b.create("Bill", nil)
	b.publish(b.webhooks()...)
	b.delivered(b.a, bill)
	b.fillRetry("b", bill)
	for range 300 { // each told by its own webhook body
		b.create("Customer", nil)
		b.publish(b.webhooks()...)
	}
	b.clock.Advance(time.Minute)
	require.NoError(t, b.sim.Update(bill, nil))
	b.publish(b.webhooks()...)
	b.delivered(b.a, bill)
	theirs, err := b.sim.Create(other, "Invoice", nil)
	require.NoError(t, err)
	b.publish(b.webhooks()...)
	b.delivered(b.a, theirs)
	require.Eventually(t, func() bool { return b.idle(t) }, patient, 5*time.Millisecond, "something waits on the events")
	notes := b.behind("b")
	require.Contains(t, notes, realm+" Customer")
	require.Contains(t, notes, realm+" Bill")
	require.Contains(t, notes, other+" Invoice")
	require.Empty(t, b.behind("a"))
	b.unschedule()
	due, err := b.store.Due(t.Context(), realm)
	require.NoError(t, err)
	require.Zero(t, due, "not while the sink is down")

	// A cursor that is past a change that sink b does not have: the API showed it late.
	past := b.clock.Now().Truncate(time.Second)
	require.NoError(t, b.store.AdvanceCursors(t.Context(), realm, map[string]time.Time{"Customer": past, "Bill": past.Add(-time.Hour), "Vendor": past}))
	b.b.misbehave(nil)
	b.clock.Advance(time.Hour)
	require.Eventually(t, func() bool { return len(b.behind("b")) == 0 }, patient, 10*time.Millisecond, "the sink is back")
	for _, r := range []string{realm, other} {
		due, err := b.store.Due(t.Context(), r)
		require.NoError(t, err)
		require.WithinDuration(t, b.clock.Now(), due, time.Second, "due for a scan")
	}
	cursors, err := b.store.Cursors(t.Context(), realm)
	require.NoError(t, err)
	require.True(t, cursors["Customer"].Before(past.Add(-59*time.Second)), "%v is past what sink b lacks", cursors["Customer"])
	require.Equal(t, past.Add(-time.Hour), cursors["Bill"].Local().UTC())
	require.Equal(t, past, cursors["Vendor"])
	b.settle(p)
	b.scan("a", "b")
	env := b.event(fromCDC, &ledgerfeedv1.Event{Entity: theirs.Entity, EntityId: theirs.ID, Operation: updated, Version: latest(t, b, theirs).Version})
	env.RealmId = other
	b.publish(env)
	b.settle(p)
	b.requireEqual(b.a)
	require.Empty(t, b.dead())
}

// What a person asked for, or what no scan finds, becomes a dead letter of the sink that
// is down: the marks do not say that it lacks it.
func TestFull_WhatNoScanFindsBecomesADeadLetter(t *testing.T) {
	t.Parallel()
	b := setupSmall(t, func(c *stream.Config) { c.RetryMaxBytes = 1 << 20 })
	p := b.start()
	bill := b.create("Bill", nil)
	b.deliver(p)
	b.requireEqual()
	b.b.misbehave(refuseAll)
	b.fillRetry("b", bill)
	b.publish(b.event(fromReplay, &ledgerfeedv1.Event{Entity: "Bill", EntityId: bill.ID, Operation: updated}))
	require.Eventually(t, func() bool { return len(b.dead()) == 1 && b.idle(t) }, patient, 10*time.Millisecond)
	dead := b.dead()[0]
	require.Equal(t, stream.ReasonRetryFull, dead.Reason)
	require.Equal(t, "b", dead.Sink)
	require.Len(t, b.a.of(bill), 2, "the other one got it again")

	b.b.misbehave(nil)
	b.settle(p)
	n := len(b.b.of(bill))
	b.requeue(p)
	require.Len(t, b.b.of(bill), n+1)
	require.Empty(t, b.dead())
}

// A realm cannot be read for so long that what waits aside has no room any more.
func TestFull_ARealmThatCannotBeReadForLongStopsNoOther(t *testing.T) {
	t.Parallel()
	for name, breaks := range map[string]func(b *bundle, o *atomic.Bool){
		"its API fails":      func(b *bundle, _ *atomic.Bool) { b.breakRealm() },
		"its calls are used": func(_ *bundle, used *atomic.Bool) { used.Store(true) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setupSmall(t, func(c *stream.Config) { c.RetryMaxBytes = 1 << 20 })
			b.waitAfter = 2
			next := neighbour()
			b.connect(next)
			bill := b.create("Bill", nil)
			b.webhooks()
			var used atomic.Bool
			breaks(b, &used)
			o := b.options()
			if used.Load() {
				o.QBO = b.limited(func(r string) error {
					if used.Load() && r == realm {
						return state.ErrBudget
					}
					return nil
				})
			}
			b.run(o)
			b.unschedule()
			b.fillRetry("elsewhere", bill)
			b.fillRetry("", bill) // what waits aside
			for i := range 3 * b.config.MaxAckPending {
				b.publish(b.event(fromWebhook, &ledgerfeedv1.Event{Entity: "Bill", EntityId: bill.ID, Id: fmt.Sprint(i), Operation: updated, OccurredAt: timestamppb.New(b.clock.Now())}))
			}
			invoice, err := b.sim.Create(next, "Invoice", nil)
			require.NoError(t, err)
			b.publish(b.webhooks()...)
			b.delivered(b.a, invoice)
			b.delivered(b.b, invoice)
			require.Eventually(t, func() bool { return b.idle(t) }, patient, 10*time.Millisecond)
			require.Zero(t, b.marks("a", "Bill", bill.ID).Version)
			require.Eventually(t, func() bool {
				due, err := b.store.Due(t.Context(), realm)
				return err == nil && !due.IsZero()
			}, patient, 10*time.Millisecond, "a scan brings the bill")
			used.Store(false)
			b.broken.Store(nil)
			b.scan("a", "b")
			b.delivered(b.a, bill)
			b.delivered(b.b, bill)
		})
	}
}

// Poison records of one realm fill what its letters may have; another realm has poison
// too, a body comes that nobody can read, and there is work to do.
func TestFull_PoisonOfOneRealmLeavesRoomForOthers(t *testing.T) {
	t.Parallel()
	b := setupSmall(t, func(c *stream.Config) { c.DeadMaxBytes = 1 << 20 })
	b.connect(other)
	p := b.start()
	b.fillDead(stream.ReasonPoison, func(int) string { return realm })
	var all []qbosim.Ref
	for range 2 * b.config.MaxAckPending {
		all = append(all, b.create("Bill", nil))
	}
	good := b.create("Invoice", nil)
	theirs, err := b.sim.Create(other, "Bill", nil)
	require.NoError(t, err)
	b.sim.SetFaults(qbosim.Faults{Poison: append(all[:len(all):len(all)], theirs)})
	var envs []*ledgerfeedv1.Envelope
	for _, ref := range all {
		envs = append(envs, b.event(fromWebhook, &ledgerfeedv1.Event{Entity: "Bill", EntityId: ref.ID, Id: ref.ID, Operation: updated, OccurredAt: timestamppb.New(b.clock.Now())}))
	}
	b.publish(envs...)
	b.publish(b.webhooks()...)
	b.delivered(b.a, good)
	b.settle(p)
	require.NotZero(t, b.metric("ledgerfeed_processor_events_unlettered_total"))
	letters := map[string]int{}
	require.NoError(t, b.conn.EachDead(t.Context(), stream.DeadFilter{Entity: "Bill", EntityID: theirs.ID, RealmID: other}, func(d stream.DeadLetter) error {
		letters[d.RealmID]++
		return nil
	}))
	require.Equal(t, map[string]int{other: 1}, letters, "the other realm's letter has room")
	require.NoError(t, b.conn.PublishDead(t.Context(), stream.DeadLetter{Reason: stream.ReasonUnreadable, Body: []byte("?"), At: b.clock.Now()}))
	require.Equal(t, stream.ReasonUnreadable, b.dead()[0].Reason, "so has a body that cannot be read")

	// Nothing is lost: no mark has them, no record excuses a sink.
	gone, err := b.store.Dead(t.Context(), realm, "a", []state.Ref{{Entity: "Bill", ID: all[0].ID}})
	require.NoError(t, err)
	require.Zero(t, gone[0].Version)
	b.sim.SetFaults(qbosim.Faults{})
	b.scan("a", "b")
	b.settle(p)
	for _, ref := range all {
		require.NotNil(t, b.a.all()[ref])
		require.NotNil(t, b.b.all()[ref])
	}
}

// A refused change whose letter has no room, and that the cursor is past: no scan tries it
// again, so the letter waits, and moves when there is room.
func TestFull_ALetterThatNoScanReplacesWaitsForRoom(t *testing.T) {
	t.Parallel()
	b := setupSmall(t, func(c *stream.Config) { c.DeadMaxBytes = 1 << 20 })
	b.b.misbehave(func(context.Context, []*ledgerfeedv1.Change) error {
		return stream.Permanent(stream.ReasonSinkRefused, errors.New("no"))
	})
	b.fillDead(stream.ReasonSinkRefused, someRealm)
	b.fillDead(stream.ReasonPoison, someRealm)
	b.start()
	customer := b.create("Customer", nil)
	b.publish(b.webhooks()...)
	b.delivered(b.a, customer) // the sinks are registered, which rewinds cursors
	require.NoError(t, b.store.AdvanceCursors(t.Context(), realm, map[string]time.Time{"Bill": b.clock.Now().Add(time.Hour)}))
	bill, invoice := b.create("Bill", nil), b.create("Invoice", nil)
	b.publish(b.webhooks()...)
	b.delivered(b.a, bill)
	b.delivered(b.a, invoice)
	waits := func() uint64 {
		lag, err := b.conn.Lag(t.Context(), stream.Waiting, "processor_waiting")
		require.NoError(t, err)
		return lag.Stored
	}
	require.Eventually(t, func() bool { return b.idle(t) && waits() == 1 }, patient, 10*time.Millisecond, "the bill's letter, not the invoice's")
	calls := b.calls()
	require.NoError(t, b.conn.EachDead(t.Context(), stream.DeadFilter{}, func(d stream.DeadLetter) error {
		require.NotEqual(t, realm, d.RealmID)
		return b.conn.DeleteDead(t.Context(), d.Seq)
	}))
	require.Eventually(t, func() bool { return waits() == 0 }, patient, 10*time.Millisecond)
	require.Equal(t, calls, b.calls(), "it costs no call")
	dead := b.dead()[0]
	require.Equal(t, stream.ReasonSinkRefused, dead.Reason)
	require.Equal(t, "b", dead.Sink)
	require.Equal(t, bill.ID, dead.Envelope.GetEvents()[0].GetEntityId())
	b.b.misbehave(nil)
	_, err := b.conn.Requeue(t.Context(), dead)
	require.NoError(t, err)
	b.delivered(b.b, bill)
}

// One body of invented names costs a few calls and one letter.
func TestFull_ABodyOfInventedNamesCostsFewCalls(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start()
	bill := b.create("Bill", nil)
	b.deliver(p)
	calls := b.calls()
	invented := many(realm, "invented", 100)[0]
	for i, e := range invented.GetEvents() {
		e.Entity = fmt.Sprintf("Thing%d", i)
	}
	b.publish(invented)
	b.settle(p)
	require.LessOrEqual(t, b.calls()-calls, 3*10, "ten names, each until it is sure")
	dead := b.dead()
	require.Len(t, dead, 1)
	require.Equal(t, stream.ReasonUnknownEntity, dead[0].Reason)
	require.Len(t, dead[0].Envelope.GetEvents(), 100)
	calls = b.calls()
	b.requeue(p)
	require.Equal(t, calls, b.calls(), "they are remembered")

	// Within the hour no other is tried, and then some are again.
	b.clock.Advance(time.Hour)
	b.publish(b.event(fromWebhook, &ledgerfeedv1.Event{Entity: "Thing7", EntityId: "1", Operation: updated}))
	b.settle(p)
	require.Equal(t, calls+3, b.calls())
	require.NoError(t, b.sim.Update(bill, nil))
	b.deliver(p)
	b.requireEqual()
}

// A name that the table does not hold and QuickBooks knows is not held up by others.
func TestFull_ANameThatQuickBooksKnowsIsReadAllTheSame(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var asked atomic.Int64
	answers := func(r *http.Request) bool {
		if strings.Contains(r.URL.Query().Get("query"), "FROM Gadget ") {
			asked.Add(1)
		}
		return false
	}
	b.broken.Store(&answers)
	p := b.start()
	b.publish(b.event(fromWebhook, &ledgerfeedv1.Event{Entity: "Gadget", EntityId: "1", Operation: updated}))
	b.settle(p)
	require.EqualValues(t, 3, asked.Load(), "one response is not enough to give it up")
	require.Equal(t, []stream.Reason{stream.ReasonUnknownEntity}, reasons(b.dead()))
}

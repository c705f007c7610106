package processor_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

func TestProcessor_AnUnknownRealmGoesToTheDeadLetters(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start()
	env := b.event(fromCDC, &ledgerfeedv1.Event{Entity: "Bill", EntityId: "1", Operation: updated, Version: qbo.Version(b.clock.Now(), "1", false)})
	env.RealmId = "4711"
	b.publish(env)
	bill := b.create("Bill", nil)
	b.deliver(p)

	require.NotNil(t, b.a.last(t, bill), "the others go on")
	dead := b.dead()
	require.Equal(t, []stream.Reason{stream.ReasonRealmNotConnected}, reasons(dead))
	require.Equal(t, "4711", dead[0].RealmID)
	require.Equal(t, env.GetId(), dead[0].Envelope.GetId())
	require.EqualValues(t, 1, p.Stats().Dead)
	gone, err := b.store.Dead(t.Context(), "4711", "a", []state.Ref{{Entity: "Bill", ID: "1"}})
	require.NoError(t, err)
	require.Zero(t, gone[0].Version, "once connected, the load must not take it for done")
}

func TestProcessor_AParkedRealmIsAckedAndCounted(t *testing.T) {
	t.Parallel()
	for _, to := range []connection.State{connection.ReauthRequired, connection.Disconnected} {
		t.Run(string(to), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.create("Bill", nil)
			envs := b.webhooks()
			require.NoError(t, b.connections.SetState(t.Context(), realm, to, "test"))
			p := b.start()
			b.publish(envs...)
			b.settle(p)
			require.Zero(t, b.a.count())
			require.Zero(t, b.calls())
			require.Empty(t, b.dead())
			require.EqualValues(t, 1, p.Stats().Parked)
			c, err := b.connections.Get(t.Context(), realm)
			require.NoError(t, err)
			if to == connection.Disconnected {
				require.EqualValues(t, 1, c.Late.Events, "Intuit does not know that it is disconnected")
			} else {
				require.Zero(t, c.Late)
			}
		})
	}
}

// Intuit's API refuses good tokens (intuit/oauth-jsclient#135): the event costs four calls
// (two of which ask whether the token is refused) and one new token, and waits aside as long as the connection says.
func TestProcessor_APermanent401WaitsAside(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var calls atomic.Int64
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"fault":{"error":[{"message":"message=AuthenticationFailed; errorCode=000100; statusCode=401","detail":"SRV-110-Authentication Failure","code":"100"}],"type":"AUTHENTICATION"}}`)
	}))
	t.Cleanup(api.Close)
	var err error
	b.client, err = qbo.New(qbo.Options{BaseURL: api.URL, Tokens: b.connections, Limiter: b.store.Limiter(unlimited)})
	require.NoError(t, err)
	before, err := b.connections.Get(t.Context(), realm)
	require.NoError(t, err)
	b.create("Bill", nil)
	envs := b.webhooks()
	p := b.start()
	b.publish(envs...)
	require.Eventually(t, func() bool {
		lag, err := b.conn.Lag(t.Context(), stream.Waiting, "processor_waiting")
		return err == nil && lag.Stored == 1
	}, patient, 5*time.Millisecond, "it does not step aside")
	after, err := b.connections.Get(t.Context(), realm)
	require.NoError(t, err)
	require.Equal(t, before.Generation+1, after.Generation, "one refresh")
	require.Equal(t, connection.Live, after.State)
	require.WithinDuration(t, b.clock.Now().Add(time.Minute), after.HeldUntil, 30*time.Second)
	require.EqualValues(t, 4, calls.Load())
	require.Empty(t, b.dead())
	require.Zero(t, p.Stats().Dead)
}

// The token may turn out to be worthless only when it is used.
func TestProcessor_ARevokedRealmIsParked(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.create("Bill", nil)
	envs := b.webhooks()
	b.sim.RevokeRealm(realm)
	p := b.start()
	b.publish(envs...)
	b.settle(p)
	require.Empty(t, b.dead())
	require.EqualValues(t, 1, p.Stats().Parked)
	c, err := b.connections.Get(t.Context(), realm)
	require.NoError(t, err)
	require.Equal(t, connection.ReauthRequired, c.State)
}

func TestProcessor_AnUnknownEntityGoesToTheDeadLetters(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start()
	for _, name := range []string{"Spaceship", "Bill WHERE Id > '0' --", "日本"} {
		b.publish(b.event(fromWebhook, &ledgerfeedv1.Event{Entity: name, EntityId: "1", Operation: updated, OccurredAt: timestamppb.New(b.clock.Now())}))
	}
	b.settle(p)
	want := []stream.Reason{stream.ReasonUnknownEntity, stream.ReasonUnknownEntity, stream.ReasonUnknownEntity}
	require.Equal(t, want, reasons(b.dead()))
	require.Equal(t, 3, b.calls(), "what is no name is not asked for, the other one until it is sure")
}

// One record that the API fails on must cost a letter for itself, and nothing
// for the others.
func TestProcessor_APoisonRecordIsIsolated(t *testing.T) {
	t.Parallel()
	b := setup(t)
	refs := make([]qbosim.Ref, 100)
	for i := range refs {
		refs[i] = b.create("Invoice", nil)
	}
	poison := []qbosim.Ref{refs[17], refs[18], refs[99]}
	b.sim.SetFaults(qbosim.Faults{Poison: poison})
	b.publish(b.webhooks()...)
	p := b.start()
	b.settle(p)
	require.Equal(t, len(refs)-len(poison), b.a.count())
	b.a.requireOnce(t)
	dead := b.dead()
	var ids []string
	for _, d := range dead {
		require.Equal(t, stream.ReasonPoison, d.Reason)
		for _, e := range d.Envelope.GetEvents() {
			ids = append(ids, e.GetEntityId())
		}
	}
	require.ElementsMatch(t, []string{poison[0].ID, poison[1].ID, poison[2].ID}, ids)
	require.EqualValues(t, 3, p.Stats().Dead)
	require.Less(t, b.calls(), 60)

	// A scan knows the version: with that the record no longer holds a cursor back.
	version := latest(t, b, poison[0]).Version
	b.publish(b.event(fromCDC, &ledgerfeedv1.Event{Entity: "Invoice", EntityId: poison[0].ID, Operation: updated, Version: version}))
	b.settle(p)
	for _, sink := range []string{"a", "b"} {
		gone, err := b.store.Dead(t.Context(), realm, sink, []state.Ref{{Entity: "Invoice", ID: poison[0].ID}, {Entity: "Invoice", ID: poison[1].ID}})
		require.NoError(t, err)
		require.Equal(t, []int64{version, 0}, []int64{gone[0].Version, gone[1].Version})
	}

	// Mended, it is delivered like any other.
	b.sim.SetFaults(qbosim.Faults{})
	b.clock.Advance(time.Minute)
	for _, ref := range poison {
		require.NoError(t, b.sim.Update(ref, nil))
	}
	b.deliver(p)
	b.requireEqual()
}

// The API may show a state from before the webhook.
func TestProcessor_AStateOlderThanTheEventIsAskedForAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start()
	bill := b.create("Bill", nil)
	b.deliver(p)
	b.sim.SetFaults(qbosim.Faults{ReadLag: 2 * time.Second})
	b.clock.Advance(time.Minute)
	require.NoError(t, b.sim.Update(bill, nil))
	calls := b.calls()
	b.publish(b.webhooks()...)
	require.Eventually(t, func() bool { return b.calls() > calls }, patient, time.Millisecond)
	b.clock.Advance(3 * time.Second)
	b.settle(p)
	b.requireEqual()
	b.a.requireOnce(t)
	require.Equal(t, calls+2, b.calls())
}

// A state that stays older than the event is delivered: better than none. The record
// is left to a scan within minutes.
func TestProcessor_AStateThatStaysOldIsDeliveredAndFollowedUp(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"Bill", "Vendor", "TimeActivity"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			p := b.start()
			ref := b.create(name, nil)
			b.webhooks() // lost
			b.clock.Advance(time.Minute)
			b.sim.SetFaults(qbosim.Faults{ReadLag: 5 * time.Second})
			old := latest(t, b, ref)
			require.NoError(t, b.sim.Update(ref, nil))
			b.deliver(p)
			require.Equal(t, old.Version, b.a.last(t, ref).GetVersion())
			require.Equal(t, 2, b.calls())
			follow, err := b.store.FollowUps(t.Context(), realm)
			require.NoError(t, err)
			require.Len(t, follow, 1)
			require.Equal(t, state.FollowUpRead, follow[0].Kind)
			require.Equal(t, latest(t, b, ref).LastUpdated, follow[0].Since.Truncate(time.Second))
			due, err := b.store.Due(t.Context(), realm)
			require.NoError(t, err)
			require.WithinDuration(t, b.clock.Now(), due, 5*time.Minute)
		})
	}
}

// An event that is yet to come says nothing of the state, and moves nothing beyond now.
func TestProcessor_AnEventOfTheFutureMovesNothingBeyondNow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start()
	bill := b.create("Bill", nil)
	b.webhooks() // lost
	b.publish(b.event(fromWebhook, &ledgerfeedv1.Event{Entity: "Bill", EntityId: bill.ID, Operation: updated, OccurredAt: timestamppb.New(b.clock.Now().Add(24 * time.Hour))}))
	b.settle(p)
	b.requireEqual()
	require.Equal(t, 1, b.calls())
	require.False(t, b.marks("a", "Bill", bill.ID).Covered.After(b.clock.Now()))
	b.clock.Advance(time.Minute)
	require.NoError(t, b.sim.Update(bill, nil))
	b.deliver(p)
	b.requireEqual()
}

// A record that is too new to be seen is not gone, even if it was deleted: of a
// name list that leaves it there, inactive.
func TestProcessor_ARecordNotVisibleYetIsWaitedFor(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"Bill", "Customer"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.sim.SetFaults(qbosim.Faults{ReadLag: 2 * time.Second})
			p := b.start()
			b.clock.Advance(time.Minute)
			ref := b.create(name, nil)
			if name == "Customer" {
				require.NoError(t, b.sim.Delete(ref))
			}
			b.publish(b.webhooks()...)
			require.Eventually(t, func() bool { return b.metric("ledgerfeed_processor_messages_put_off_total") > 0 }, patient, time.Millisecond)
			require.Zero(t, b.a.count())
			b.clock.Advance(3 * time.Second)
			b.settle(p)
			b.requireEqual()
			require.False(t, b.a.last(t, ref).GetDeleted())
			b.a.requireOnce(t)
		})
	}
}

// The create came, the deletion was lost: CDC knows.
func TestProcessor_AMissingRecordThatCDCCallsDeletedIsATombstone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start()
	bill := b.create("Bill", nil)
	envs := b.webhooks()
	b.clock.Advance(time.Minute)
	require.NoError(t, b.sim.Delete(bill))
	b.webhooks() // lost
	b.publish(envs...)
	b.settle(p)
	b.requireEqual()
	require.Empty(t, b.dead())
	require.Equal(t, 1, b.sim.Stats().CallsByKind["cdc"])
}

// A record that no read shows may not be visible yet, whatever its type: a scan looks
// again, and nothing is concluded until then.
func TestProcessor_AMissingRecordThatNobodyExplainsIsLeftToAScan(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start()
	event := func(name string) *ledgerfeedv1.Envelope {
		return b.event(fromWebhook, &ledgerfeedv1.Event{Entity: name, EntityId: "4711", Operation: updated, OccurredAt: timestamppb.New(b.clock.Now())})
	}
	b.publish(event("Bill"), event("TimeActivity"))
	bill := b.create("Bill", nil)
	b.deliver(p)
	require.NotNil(t, b.a.last(t, bill))
	require.Empty(t, b.dead())
	require.Equal(t, 1, b.a.count())
	follow, err := b.store.FollowUps(t.Context(), realm)
	require.NoError(t, err)
	require.Len(t, follow, 2)
}

func TestProcessor_AThrottledRealmWaits(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.sim.SetFaults(qbosim.Faults{Error429: 1, RetryAfter: time.Second})
	p := b.start()
	b.create("Bill", nil)
	b.publish(b.webhooks()...)
	require.Eventually(t, func() bool { return b.sim.Stats().Throttled > 0 }, patient, time.Millisecond)
	b.sim.SetFaults(qbosim.Faults{})
	b.settle(p)
	b.requireEqual()
	require.Empty(t, b.dead())
}

func TestProcessor_AServerErrorIsTriedAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.sim.SetFaults(qbosim.Faults{Error5xx: 1})
	p := b.start()
	b.create("Bill", nil)
	b.publish(b.webhooks()...)
	require.Eventually(t, func() bool { return b.calls() > 0 }, patient, time.Millisecond)
	b.sim.SetFaults(qbosim.Faults{})
	b.settle(p)
	b.requireEqual()
	require.Empty(t, b.dead())
}

// A record may break the server itself, without a code that says so. That must
// not look like an outage for ever.
func TestProcessor_ARecordThatBreaksTheServerIsIsolated(t *testing.T) {
	t.Parallel()
	b := setup(t)
	refs := make([]qbosim.Ref, 10)
	for i := range refs {
		refs[i] = b.create("Invoice", nil)
	}
	bad := refs[6].ID
	broken := func(r *http.Request) bool {
		q := r.URL.Query().Get("query")
		return strings.Contains(q, "'"+bad+"'") || strings.HasSuffix(r.URL.Path, "/invoice/"+bad)
	}
	b.broken.Store(&broken)
	var events []*ledgerfeedv1.Event
	for _, env := range b.webhooks() {
		events = append(events, env.GetEvents()...)
	}
	b.publish(envelope.New(fromWebhook, realm, "all", events, envelope.Meta{})...)
	p := b.start()
	b.settle(p)
	require.Equal(t, 9, b.a.count())
	dead := b.dead()
	require.Equal(t, []stream.Reason{stream.ReasonPoison}, reasons(dead))
	require.Equal(t, bad, dead[0].Envelope.GetEvents()[0].GetEntityId())
}

func TestProcessor_BytesThatAreNoEnvelopeGoToTheDeadLetters(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start()
	raw := "\x00no envelope\xff"
	rawPublish(t, hostOf(t, b.natsURL), "lf.event.00.1", raw)
	unknown := b.event(fromReplay, &ledgerfeedv1.Event{Entity: "Bill", EntityId: "1", Operation: updated})
	unknown.Sink = "nowhere"
	b.publish(unknown)
	bill := b.create("Bill", nil)
	b.deliver(p)
	require.NotNil(t, b.a.last(t, bill))
	dead := b.dead()
	require.Equal(t, []stream.Reason{stream.ReasonInvalidEnvelope, stream.ReasonUnknownSink}, reasons(dead))
	bodies := map[string]bool{}
	for _, d := range dead {
		bodies[string(d.Body)] = true
	}
	require.Contains(t, bodies, raw, "byte by byte")
}

// rawPublish speaks the protocol of NATS by hand: what package stream would not send.
func rawPublish(t *testing.T, address, subject, body string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer conn.Close()
	in := bufio.NewReader(conn)
	_, err = in.ReadString('\n') // INFO
	require.NoError(t, err)
	_, err = fmt.Fprintf(conn, "CONNECT {\"verbose\":false}\r\nPUB %s %d\r\n%s\r\nPING\r\n", subject, len(body), body)
	require.NoError(t, err)
	for {
		line, err := in.ReadString('\n')
		require.NoError(t, err)
		if strings.HasPrefix(line, "PONG") {
			return
		}
	}
}

func TestProcessor_ASinkThatFailsGetsItLater(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.b.misbehave(func(context.Context, []*ledgerfeedv1.Change) error { return errors.New("disk on fire") })
	p := b.start()
	for range 20 {
		b.create("Bill", nil)
		b.publish(b.webhooks()...)
	}
	require.Eventually(t, func() bool { return b.a.count() == 20 }, patient, time.Millisecond, "the other one goes on")
	events, err := b.conn.Lag(t.Context(), stream.Events, "processor")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		events, err = b.conn.Lag(t.Context(), stream.Events, "processor")
		return err == nil && events.Stored == 0
	}, patient, time.Millisecond, "nothing of it blocks the events")
	require.Zero(t, b.b.count())

	b.b.misbehave(nil)
	b.settle(p)
	b.requireEqual()
	b.a.requireOnce(t)
	b.b.requireOnce(t)
	require.Empty(t, b.dead())
}

// A sink that hangs must not slow the others down to its deadline.
func TestProcessor_ASinkThatHangsHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.config.WriteTimeout = 200 * time.Millisecond
	var waited atomic.Int64
	b.b.misbehave(func(ctx context.Context, _ []*ledgerfeedv1.Change) error {
		waited.Add(1)
		<-ctx.Done()
		return ctx.Err()
	})
	p := b.start()
	const batches = 60
	for i := range batches {
		b.create("Bill", nil)
		b.publish(b.webhooks()...)
		require.Eventually(t, func() bool { return b.a.count() == i+1 }, patient, time.Millisecond)
	}
	require.Less(t, waited.Load(), int64(batches/2), "most batches must not wait for the deadline")
	b.b.misbehave(nil)
	b.settle(p)
	b.requireEqual()
	b.a.requireOnce(t)
}

func TestProcessor_WhileASinkIsDownItsRetriesCostNoCall(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var tries atomic.Int64
	b.b.misbehave(func(context.Context, []*ledgerfeedv1.Change) error {
		tries.Add(1)
		return errors.New("down")
	})
	p := b.start()
	const records = 30
	for range records {
		b.create("Bill", nil)
		b.publish(b.webhooks()...)
		require.Eventually(t, func() bool { return len(b.a.all()) == len(b.sim.Truth(realm)) }, patient, time.Millisecond)
	}
	require.Eventually(t, func() bool {
		lag, err := b.conn.Lag(t.Context(), stream.Retry("b"), "processor-b")
		return err == nil && lag.Redelivered >= 10
	}, patient, time.Millisecond)
	require.LessOrEqual(t, int64(b.calls()), records+tries.Load(), "a call each for the healthy sink, and one for each real try")
	require.Less(t, tries.Load(), int64(records))
	b.b.misbehave(nil)
	b.settle(p)
	b.requireEqual()
}

// A sink that refuses a change for good gets all others, and a letter says so.
func TestProcessor_ASinkThatRefusesOneChangeGetsTheOthers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var bad string
	b.b.misbehave(func(_ context.Context, changes []*ledgerfeedv1.Change) error {
		for _, c := range changes {
			if c.GetEntityId() == bad {
				return stream.Permanent(stream.ReasonSinkRefused, errors.New("NUL in "+bad))
			}
		}
		return nil
	})
	refs := make([]qbosim.Ref, 50)
	for i := range refs {
		refs[i] = b.create("Bill", nil)
	}
	bad = refs[20].ID
	b.publish(b.webhooks()...)
	p := b.start()
	b.settle(p)
	require.Equal(t, 50, b.a.count())
	require.Equal(t, 49, b.b.count())
	dead := b.dead()
	require.Len(t, dead, 1)
	require.Equal(t, stream.ReasonSinkRefused, dead[0].Reason)
	require.Equal(t, "b", dead[0].Sink)
	require.Contains(t, dead[0].Detail, "NUL in")
	require.Equal(t, bad, dead[0].Envelope.GetEvents()[0].GetEntityId())
	for sink, want := range map[string]int64{"a": 0, "b": latest(t, b, refs[20]).Version} {
		gone, err := b.store.Dead(t.Context(), realm, sink, []state.Ref{{Entity: "Bill", ID: bad}})
		require.NoError(t, err)
		require.Equal(t, want, gone[0].Version, sink)
		if want == 0 {
			continue
		}
		has, err := b.conn.HasDead(t.Context(), gone[0].Letter, realm, sink, "Bill", bad)
		require.NoError(t, err)
		require.True(t, has, "the record names its letter")
	}
	require.Zero(t, b.marks("b", "Bill", bad).Version)
	b.requireEqual(b.a)
}

// While Redis is away nothing is read: there is no limit to ask and no mark to
// compare with. Nothing is lost either.
func TestProcessor_WithoutRedisNothingIsRead(t *testing.T) {
	t.Parallel()
	b := setup(t)
	gate := newGate(t, hostOf(t, b.redisURL))
	store := b.openState("redis://" + gate.address + "/0")
	connections := b.openConnections(store)
	o := b.options()
	o.State, o.Connections, o.QBO = store, connections, b.newClient(connections, store)
	p := b.run(o)
	b.create("Bill", nil)
	b.deliver(p)
	b.requireEqual()
	calls := b.calls()

	gate.close()
	b.create("Customer", nil)
	b.publish(b.webhooks()...)
	require.Eventually(t, func() bool {
		lag, err := b.conn.Lag(t.Context(), stream.Events, "processor")
		return err == nil && lag.Redelivered > 0
	}, patient, 5*time.Millisecond)
	require.Equal(t, calls, b.calls())

	gate.open(t)
	b.settle(p)
	b.requireEqual()
	b.a.requireOnce(t)
}

// The broker never hears of the ack: the message comes again and costs nothing.
func TestProcessor_ARedeliveryRepeatsNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	gate := newGate(t, hostOf(t, b.natsURL))
	b.b.misbehave(func(context.Context, []*ledgerfeedv1.Change) error {
		gate.close()
		return nil
	})
	o := b.options()
	o.Stream = b.dial("nats://" + gate.address)
	first := b.run(o)
	bill, gone := b.create("Bill", nil), b.create("Bill", nil)
	require.NoError(t, b.sim.Delete(gone))
	b.publish(b.webhooks()...)
	require.Eventually(t, func() bool { return b.marks("b", "Bill", bill.ID).Version > 0 }, patient, time.Millisecond)
	first.stop()
	b.b.misbehave(nil)
	calls := b.calls()

	second := b.start()
	b.settle(second)
	b.requireEqual()
	b.a.requireOnce(t)
	b.b.requireOnce(t)
	require.Equal(t, calls, b.calls())
	require.EqualValues(t, 3, second.Stats().Duplicates)
}

// A new sink has to be loaded from the beginning; one that is known must not.
func TestProcessor_ANewSinkMakesTheScansStartOver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	restart := func() {
		p := b.start()
		b.create("Bill", nil)
		b.deliver(p)
		p.stop()
	}
	restart()
	cursor := map[string]time.Time{"Bill": b.clock.Now().Truncate(time.Second)}
	require.NoError(t, b.store.AdvanceCursors(t.Context(), realm, cursor))
	require.NoError(t, b.store.Done(t.Context(), realm, state.Never))

	restart()
	cursors, err := b.store.Cursors(t.Context(), realm)
	require.NoError(t, err)
	require.Equal(t, cursor, cursors)

	b.b = newMemory("c")
	restart()
	cursors, err = b.store.Cursors(t.Context(), realm)
	require.NoError(t, err)
	require.Empty(t, cursors)
	due, err := b.store.Due(t.Context(), realm)
	require.NoError(t, err)
	require.Equal(t, b.clock.Now(), due)
	names, err := b.store.Sinks(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"a", "c"}, names, "no scan waits for a sink that is not configured any more")
}

// I13: what is in hand is finished, what is not is left, nothing comes twice.
func TestProcessor_AStopFinishesWhatIsInHand(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.config.MaxAckPending = 10
	writing, release := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	b.b.misbehave(func(context.Context, []*ledgerfeedv1.Change) error {
		if once.CompareAndSwap(false, true) {
			close(writing)
		}
		<-release
		return nil
	})
	const records = 60
	for range records {
		b.create("Bill", nil)
		b.publish(b.webhooks()...)
	}
	first := b.start()
	<-writing
	stopped := make(chan struct{})
	go func() {
		first.stop()
		close(stopped)
	}()
	select {
	case <-stopped:
		t.Fatal("a write was under way")
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	<-stopped
	lag, err := b.conn.Lag(t.Context(), stream.Events, "processor")
	require.NoError(t, err)
	require.EqualValues(t, records-b.b.count(), lag.Stored, "acked is what was written, and nothing else")

	b.b.misbehave(nil)
	b.settle(b.start())
	b.requireEqual()
	b.a.requireOnce(t)
	b.b.requireOnce(t)
}

func TestProcessor_AStopIsBounded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.config.DrainTimeout = 50 * time.Millisecond
	writing := make(chan struct{}, 100)
	b.b.misbehave(func(ctx context.Context, _ []*ledgerfeedv1.Change) error {
		writing <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	})
	p := b.start()
	b.create("Bill", nil)
	b.publish(b.webhooks()...)
	<-writing
	started := time.Now()
	p.stop()
	require.Less(t, time.Since(started), 5*time.Second)

	b.b.misbehave(nil)
	b.settle(b.start())
	b.requireEqual()
	b.a.requireOnce(t)
}

// What takes longer than AckWait is still ours.
func TestProcessor_WhatIsInHandIsNotRedelivered(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.config.AckWait = time.Second
	release := make(chan struct{})
	b.b.misbehave(func(ctx context.Context, _ []*ledgerfeedv1.Change) error {
		select {
		case <-release:
		case <-ctx.Done():
		}
		return ctx.Err()
	})
	p := b.start()
	b.create("Bill", nil)
	b.publish(b.webhooks()...)
	require.Eventually(t, func() bool { return b.a.count() == 1 }, patient, time.Millisecond)
	begun := time.Now()
	require.Eventually(t, func() bool { return time.Since(begun) > 5*b.config.AckWait/2 }, patient, 10*time.Millisecond)
	lag, err := b.conn.Lag(t.Context(), stream.Events, "processor")
	require.NoError(t, err)
	require.EqualValues(t, 1, lag.AckPending)
	require.Zero(t, lag.Redelivered)
	close(release)
	b.settle(p)
	b.requireEqual()
	require.Zero(t, p.Stats().Duplicates)
}

// Envelopes for one sink only, such as a person's replay, are retried there too.
func TestProcessor_AnEnvelopeForOneSinkStaysWithIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	bill := b.create("Bill", nil)
	b.webhooks() // lost
	env := b.event(fromCDC, &ledgerfeedv1.Event{Entity: "Bill", EntityId: bill.ID, Operation: updated, Version: latest(t, b, bill).Version})
	env.Sink = "b"
	var failed atomic.Bool
	b.b.misbehave(func(context.Context, []*ledgerfeedv1.Change) error {
		if failed.CompareAndSwap(false, true) {
			return errors.New("not now")
		}
		return nil
	})
	p := b.start()
	b.publish(env)
	b.settle(p)
	b.requireEqual(b.b)
	require.Zero(t, b.a.count())
}

// I9: a flood of one realm delays another by a bounded time.
func TestProcessor_AFloodOfOneRealmLeavesRoomForOthers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.connect(other)
	b.config.Parallel, b.config.RealmParallel, b.config.BatchSize = 4, 2, 5
	release := make(chan struct{})
	b.a.misbehave(func(ctx context.Context, changes []*ledgerfeedv1.Change) error {
		if changes[0].GetRealmId() == realm {
			<-release
		}
		return nil
	})
	var events []*ledgerfeedv1.Event
	for _, name := range []string{"Bill", "Invoice", "Payment", "Customer", "Vendor"} {
		for range 50 {
			ref := b.create(name, nil)
			events = append(events, &ledgerfeedv1.Event{Id: "flood", Entity: name, EntityId: ref.ID, Operation: updated, OccurredAt: timestamppb.New(b.clock.Now())})
		}
	}
	b.webhooks()
	p := b.start()
	b.publish(envelope.New(fromWebhook, realm, "flood", events, envelope.Meta{})...)
	require.Eventually(t, func() bool { return b.calls() >= 2 }, patient, time.Millisecond)
	ref, err := b.sim.Create(other, "Bill", nil)
	require.NoError(t, err)
	b.publish(b.webhooks()...)
	require.Eventually(t, func() bool { return b.a.all()[ref] != nil }, patient, time.Millisecond)
	close(release)
	b.settle(p)
	b.requireEqual()
}

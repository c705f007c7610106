package processor_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

const (
	fromWebhook = ledgerfeedv1.Source_SOURCE_WEBHOOK
	fromCDC     = ledgerfeedv1.Source_SOURCE_CDC
	fromReplay  = ledgerfeedv1.Source_SOURCE_REPLAY

	updated = ledgerfeedv1.Operation_OPERATION_UPDATE
	deleted = ledgerfeedv1.Operation_OPERATION_DELETE
)

func TestProcessor_DeliversTheStateAWebhookTellsOf(t *testing.T) {
	t.Parallel()
	b := setup(t)
	invoice := b.create("Invoice", map[string]any{"PrivateNote": "Ärger & <Co>"})
	envs := b.webhooks()
	p := b.start()
	b.publish(envs...)
	b.settle(p)

	truth := latest(t, b, invoice)
	want := &ledgerfeedv1.Change{
		RealmId: realm, Entity: "Invoice", EntityId: invoice.ID, Version: truth.Version,
		Operation: ledgerfeedv1.Operation_OPERATION_CREATE, SyncToken: truth.SyncToken,
		LastUpdated: timestamppb.New(truth.LastUpdated), Source: fromWebhook,
		LearnedAt: timestamppb.New(b.clock.Now()), EventId: envs[0].GetEvents()[0].GetId(),
		ContentHash: qbo.ContentHash(truth.Raw),
	}
	for _, s := range []*memory{b.a, b.b} {
		got := s.last(t, invoice)
		require.JSONEq(t, string(truth.Raw), string(got.GetDocument()))
		require.Empty(t, cmp.Diff(want, got, protocmp.Transform(), protocmp.IgnoreFields(want, "document", "read_at")))
		require.WithinDuration(t, b.clock.Now(), got.GetReadAt().AsTime(), time.Second, "by Intuit's clock")
	}
	require.Equal(t, 1, b.calls())
	require.Equal(t, truth.Version, b.marks("a", "Invoice", invoice.ID).Version)

	require.Eventually(t, func() bool {
		seen, err := b.store.Freshness(t.Context(), realm)
		return err == nil && len(seen) == 1 && seen[0].Operation == "create"
	}, time.Minute, 10*time.Millisecond)

	stats := p.Stats()
	require.EqualValues(t, 1, stats.Delivered[fromWebhook])
	require.Equal(t, map[string]int64{"a": 1, "b": 1}, stats.Written)
	require.EqualValues(t, 1, stats.Calls)
	problems, err := testutil.GatherAndLint(b.registry)
	require.NoError(t, err)
	require.Empty(t, problems)
}

func TestProcessor_EveryOperationEndsInTheTruth(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start()
	survivor, away := b.create("Customer", nil), b.create("Customer", nil)
	vendor := b.create("Vendor", nil)
	voided, emailed, removed := b.create("Invoice", nil), b.create("Invoice", nil), b.create("Invoice", nil)
	b.deliver(p)
	b.requireEqual()

	b.clock.Advance(time.Minute)
	require.NoError(t, b.sim.Merge(survivor, away))
	require.NoError(t, b.sim.Delete(vendor)) // a name list: made inactive
	require.NoError(t, b.sim.Void(voided))
	require.NoError(t, b.sim.Email(emailed))
	require.NoError(t, b.sim.Delete(removed))
	b.deliver(p)
	b.requireEqual()

	names := map[qbosim.Ref]string{
		survivor: "OPERATION_MERGE", away: "OPERATION_DELETE", vendor: "OPERATION_DELETE",
		voided: "OPERATION_VOID", emailed: "OPERATION_EMAILED", removed: "OPERATION_DELETE",
	}
	for ref, name := range names {
		require.Equal(t, name, b.a.last(t, ref).GetOperation().String(), ref)
	}
	gone := b.a.last(t, away)
	require.True(t, gone.GetDeleted())
	require.Equal(t, survivor.ID, gone.GetMergedInto())
	require.Empty(t, gone.GetDocument())
	inactive := b.a.last(t, vendor)
	require.False(t, inactive.GetDeleted(), "what is inactive is not gone")
	require.Contains(t, string(inactive.GetDocument()), `"Active":false`)
	require.True(t, b.a.last(t, removed).GetDeleted())
	require.EqualValues(t, 2, p.Stats().Tombstones)
	b.a.requireOnce(t)
}

// A deletion is a claim until one read confirms it: one for the whole batch.
func TestProcessor_DeletedTransactionsCostOneRead(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start()
	var bills []qbosim.Ref
	for range 50 {
		bills = append(bills, b.create("Bill", nil))
	}
	b.deliver(p)
	before := b.calls()
	b.clock.Advance(time.Minute)
	var events []*ledgerfeedv1.Event
	for _, bill := range bills {
		require.NoError(t, b.sim.Delete(bill))
		events = append(events, &ledgerfeedv1.Event{Id: bill.ID, Entity: "Bill", EntityId: bill.ID, Operation: deleted, OccurredAt: timestamppb.New(b.clock.Now())})
	}
	b.webhooks()
	b.publish(envelope.New(fromWebhook, realm, "deletions", events, envelope.Meta{ReceivedAt: b.clock.Now()})...)
	b.settle(p)
	b.requireEqual()
	require.Equal(t, before+1, b.calls())
}

// The whole point of the tombstone's version: the clock of the event may be
// behind that of the record.
func TestProcessor_ATombstoneIsNewerThanWhatItEnds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start()
	bill := b.create("Bill", nil)
	b.deliver(p)
	require.NoError(t, b.sim.Delete(bill))
	b.webhooks()
	b.publish(b.event(fromWebhook, &ledgerfeedv1.Event{
		Entity: "Bill", EntityId: bill.ID, Operation: deleted, OccurredAt: timestamppb.New(b.clock.Now().Add(-time.Hour)),
	}))
	b.settle(p)
	require.True(t, b.a.last(t, bill).GetDeleted())
	b.a.requireOnce(t)

	// What comes now changes nothing: a deletion is over, and an event that is later than
	// the tombstone costs a read that does not show the record.
	before, written := b.calls(), b.a.count()
	b.publish(
		b.event(fromWebhook, &ledgerfeedv1.Event{Entity: "Bill", EntityId: bill.ID, Operation: updated, OccurredAt: timestamppb.New(b.clock.Now().Add(time.Hour))}),
		b.event(fromCDC, &ledgerfeedv1.Event{Entity: "Bill", EntityId: bill.ID, Operation: deleted, Version: qbo.TombstoneVersion(b.clock.Now().Add(time.Minute))}),
	)
	b.settle(p)
	require.Equal(t, before+1, b.calls())
	require.Equal(t, written, b.a.count())
}

func TestProcessor_ABurstIsAFewCalls(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const records, writes = 600, 3
	refs := make([]qbosim.Ref, records)
	for i := range refs {
		refs[i] = b.create("Item", nil)
	}
	for range writes - 1 {
		b.clock.Advance(time.Second)
		for _, ref := range refs {
			require.NoError(t, b.sim.Update(ref, nil))
		}
	}
	b.publish(b.webhooks()...)
	p := b.start()
	b.settle(p)
	b.requireEqual()
	b.a.requireOnce(t)
	require.LessOrEqual(t, b.calls(), 12, "%d events of %d records", records*writes, records)
	t.Logf("%d events of %d records: %d calls", records*writes, records, b.calls())
}

// Invariant I12.
func TestProcessor_TenThousandIdsAreAtMostSixtyCalls(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const records = 10_000
	events := make([]*ledgerfeedv1.Event, records)
	for i := range events {
		ref := b.create("Payment", nil)
		events[i] = &ledgerfeedv1.Event{
			Id: fmt.Sprint(i), Entity: "Payment", EntityId: ref.ID, Operation: updated, OccurredAt: timestamppb.New(b.clock.Now()),
		}
	}
	b.clock.Advance(time.Minute)
	b.publish(envelope.New(fromWebhook, realm, "burst", events, envelope.Meta{ReceivedAt: b.clock.Now()})...)
	p := b.start()
	b.settle(p)
	b.requireEqual()
	require.LessOrEqual(t, b.calls(), 60)
	t.Logf("%d ids: %d calls", records, b.calls())
}

func TestProcessor_ARepeatedWebhookCostsNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start()
	customer := b.create("Customer", nil)
	b.clock.Advance(time.Minute)
	require.NoError(t, b.sim.Update(customer, nil))
	envs := b.webhooks()
	b.publish(envs...)
	b.settle(p)
	b.requireEqual()
	calls, written := b.calls(), b.a.count()

	events := 0
	for i, env := range envs {
		events += len(env.GetEvents())
		env.Id = fmt.Sprintf("again-%d", i) // or the broker would drop it
	}
	b.publish(envs...)
	b.settle(p)
	require.Equal(t, calls, b.calls())
	require.Equal(t, written, b.a.count())
	require.EqualValues(t, events, p.Stats().Duplicates)
}

// Two writes of one second look alike by LastUpdatedTime; the second must not be
// taken for a repetition of the first, in no format.
func TestProcessor_TheSecondUpdateOfASecondIsDelivered(t *testing.T) {
	t.Parallel()
	for name, round := range map[string]time.Duration{"milliseconds": time.Millisecond, "whole seconds": time.Second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			p := b.start()
			customer := b.create("Customer", nil)
			b.clock.Advance(200 * time.Millisecond)
			for range 3 {
				for _, env := range b.webhooks() {
					for _, e := range env.GetEvents() {
						e.OccurredAt = timestamppb.New(e.GetOccurredAt().AsTime().Truncate(round))
					}
					b.publish(env)
				}
				b.settle(p)
				b.requireEqual()
				b.clock.Advance(100 * time.Millisecond)
				require.NoError(t, b.sim.Update(customer, nil))
			}
		})
	}
}

// The legacy format has times with a fraction of a second and without: what was
// cut off may be later than what was not.
func TestProcessor_ATimeCutToTheSecondIsNotTakenForEarlier(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start()
	bill := b.create("Bill", nil)
	b.clock.Advance(100 * time.Millisecond)
	b.deliver(p)
	require.NoError(t, b.sim.Update(bill, nil))
	for _, env := range b.webhooks() {
		for _, e := range env.GetEvents() {
			e.OccurredAt = timestamppb.New(e.GetOccurredAt().AsTime().Truncate(time.Second))
		}
		b.publish(env)
	}
	b.settle(p)
	b.requireEqual()
}

// Once the second is over for certain, an event of whole seconds covers all of it.
func TestProcessor_AnOldEventOfWholeSecondsIsCoveredOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start()
	bill := b.create("Bill", nil)
	at := timestamppb.New(b.clock.Now().Truncate(time.Second))
	b.clock.Advance(3 * time.Second)
	event := func() *ledgerfeedv1.Envelope {
		return b.event(fromWebhook, &ledgerfeedv1.Event{Entity: "Bill", EntityId: bill.ID, Operation: updated, OccurredAt: at})
	}
	b.publish(event())
	b.settle(p)
	require.Equal(t, 1, b.calls())
	b.publish(event())
	b.settle(p)
	require.Equal(t, 1, b.calls())
	require.Equal(t, 1, b.a.count())
}

// A wrong clock must not make the record deaf to what comes.
func TestProcessor_AnEventFromTheFutureCoversNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start()
	bill := b.create("Bill", nil)
	b.webhooks() // lost
	b.publish(b.event(fromWebhook, &ledgerfeedv1.Event{
		Entity: "Bill", EntityId: bill.ID, Operation: updated, OccurredAt: timestamppb.New(b.clock.Now().Add(24 * time.Hour)),
	}))
	b.settle(p)
	require.Zero(t, b.marks("a", "Bill", bill.ID).Covered)
	b.clock.Advance(time.Minute)
	require.NoError(t, b.sim.Update(bill, nil))
	b.deliver(p)
	b.requireEqual()
}

func TestProcessor_AnEventWithoutATimeIsAlwaysRead(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start()
	bill := b.create("Bill", nil)
	for n := range 3 {
		b.publish(b.event(fromWebhook, &ledgerfeedv1.Event{Entity: "Bill", EntityId: bill.ID, Operation: updated}))
		b.settle(p)
		require.Equal(t, n+1, b.calls())
	}
	require.Equal(t, 1, b.a.count(), "the same version is not written again")
}

func TestProcessor_AScanIsDeliveredByVersion(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start()
	bill := b.create("Bill", nil)
	version := latest(t, b, bill).Version
	scan := func(v int64) *ledgerfeedv1.Envelope {
		return b.event(fromCDC, &ledgerfeedv1.Event{Entity: "Bill", EntityId: bill.ID, Operation: updated, Version: v, OccurredAt: timestamppb.New(qbo.VersionTime(v))})
	}
	b.publish(scan(version))
	b.settle(p)
	b.requireEqual()
	require.Equal(t, fromCDC, b.a.last(t, bill).GetSource())
	require.EqualValues(t, 1, p.Stats().Delivered[fromCDC])

	b.publish(scan(version))
	b.settle(p)
	require.Equal(t, 1, b.calls(), "the mark is at that version")

	b.clock.Advance(time.Second)
	require.NoError(t, b.sim.Update(bill, nil))
	b.webhooks() // lost
	b.publish(scan(latest(t, b, bill).Version))
	b.settle(p)
	b.requireEqual()
}

// What CDC calls deleted is, but for name lists, of which it is known to say so of
// records that are there. All else that a scan calls deleted is read once.
func TestProcessor_AScansDeletionIsReadUnlessCDCSaysSo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start()
	for _, row := range []struct {
		entity   string
		evidence ledgerfeedv1.Evidence
		calls    int
	}{
		{"Bill", ledgerfeedv1.Evidence_EVIDENCE_CDC, 0},
		{"Customer", ledgerfeedv1.Evidence_EVIDENCE_CDC, 1},
		{"TimeActivity", ledgerfeedv1.Evidence_EVIDENCE_SWEEPS, 1},
		{"Invoice", ledgerfeedv1.Evidence_EVIDENCE_UNSPECIFIED, 1}, // an older reconciler's
	} {
		ref := b.create(row.entity, nil)
		b.deliver(p)
		before := b.calls()
		b.clock.Advance(time.Minute)
		require.NoError(t, b.sim.HardDelete(ref))
		b.webhooks() // lost
		truth := latest(t, b, ref)
		b.publish(b.event(fromCDC, &ledgerfeedv1.Event{Entity: row.entity, EntityId: ref.ID, Operation: deleted, Version: truth.Version, Evidence: row.evidence}))
		b.settle(p)
		b.requireEqual()
		require.Equal(t, before+row.calls, b.calls(), row.entity)
	}
}

// A person may want something again that a sink has lost.
func TestProcessor_AReplayIsWrittenAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start()
	bill, gone := b.create("Bill", nil), b.create("Bill", nil)
	require.NoError(t, b.sim.Delete(gone))
	b.deliver(p)
	b.requireEqual()
	require.Equal(t, 2, b.a.count())

	replay := func(ref qbosim.Ref, op ledgerfeedv1.Operation) {
		env := b.event(fromReplay, &ledgerfeedv1.Event{Entity: ref.Entity, EntityId: ref.ID, Operation: op})
		env.Sink = "a"
		b.publish(env)
		b.settle(p)
	}
	replay(bill, updated)
	replay(gone, deleted)
	require.Equal(t, 4, b.a.count())
	require.Equal(t, 2, b.b.count(), "the other sink was not asked for")
	require.Equal(t, fromReplay, b.a.of(bill)[1].GetSource())
	b.requireEqual()
}

// The newest event names the operation, the earliest says how it was learned.
func TestProcessor_EventsOfOneRecordAreOneChange(t *testing.T) {
	t.Parallel()
	b := setup(t)
	invoice := b.create("Invoice", nil)
	ahead := b.create("Invoice", nil)
	b.webhooks() // lost
	scanned := latest(t, b, invoice).Version
	first := b.clock.Now()
	scan := b.event(fromCDC, &ledgerfeedv1.Event{Id: "scan", Entity: "Invoice", EntityId: invoice.ID, Operation: updated, Version: scanned})
	b.clock.Advance(time.Minute)
	require.NoError(t, b.sim.Email(invoice))
	b.clock.Advance(time.Minute)
	require.NoError(t, b.sim.Void(invoice))
	told := b.webhooks()

	// They meet in the lane: what is ahead of them is not answered until both are there.
	asked, answer := make(chan struct{}, 1), make(chan struct{})
	slow := func(*http.Request) bool {
		select {
		case asked <- struct{}{}:
		default:
		}
		<-answer
		return false
	}
	b.broken.Store(&slow)
	p := b.start()
	another := func() *ledgerfeedv1.Envelope {
		return b.event(fromCDC, &ledgerfeedv1.Event{Entity: "Invoice", EntityId: ahead.ID, Operation: updated})
	}
	b.publish(another())
	<-asked
	b.publish(scan)
	b.publish(told...)
	b.publish(another()) // messages are taken one after the other: with this in hand, the others are in the lane
	require.Eventually(t, func() bool {
		return b.metric("ledgerfeed_processor_messages_in_hand") == float64(3+len(told))
	}, patient, time.Millisecond)
	close(answer)

	b.settle(p)
	b.requireEqual()
	changes := b.a.of(invoice)
	require.Len(t, changes, 1)
	require.Equal(t, ledgerfeedv1.Operation_OPERATION_VOID, changes[0].GetOperation())
	require.Equal(t, fromCDC, changes[0].GetSource())
	require.Equal(t, first, changes[0].GetLearnedAt().AsTime())
}

// A merge does not always say which record was merged away.
func TestProcessor_AMergeWithoutTheOtherIdDeliversTheSurvivor(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.sim.SetFaults(qbosim.Faults{HideMerged: 1})
	p := b.start()
	survivor, away := b.create("Vendor", nil), b.create("Vendor", nil)
	b.deliver(p)
	b.clock.Advance(time.Minute)
	require.NoError(t, b.sim.Merge(survivor, away))
	for _, env := range b.webhooks() {
		for _, e := range env.GetEvents() {
			e.MergedId = ""
		}
		b.publish(env)
	}
	b.settle(p)
	require.Equal(t, latest(t, b, survivor).Version, b.a.last(t, survivor).GetVersion())
	require.False(t, b.a.last(t, away).GetDeleted(), "a scan finds it")
	require.Empty(t, b.dead())
}

// What was made inactive and then merged away is gone since the merge, though
// its deletion is told of first.
func TestProcessor_AnInactiveRecordThatIsMergedIsGoneSinceTheMerge(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start()
	survivor, away := b.create("Item", nil), b.create("Item", nil)
	b.deliver(p)
	b.clock.Advance(time.Minute)
	require.NoError(t, b.sim.Delete(away))
	inactive := b.webhooks()
	b.clock.Advance(time.Minute)
	require.NoError(t, b.sim.Merge(survivor, away))
	merged := b.webhooks()

	b.publish(inactive...)
	b.settle(p)
	b.publish(merged...)
	b.settle(p)
	b.requireEqual()
	require.True(t, b.a.last(t, away).GetDeleted())
}

func TestProcessor_TwoRealmsDoNotMix(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.connect(other)
	p := b.start()
	for _, r := range []string{realm, other} {
		for range 5 {
			_, err := b.sim.Create(r, "Bill", nil)
			require.NoError(t, err)
		}
	}
	b.deliver(p)
	b.requireEqual()
	require.Equal(t, 10, b.a.count())
}

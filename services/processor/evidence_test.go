package processor_test

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// claim is a signed webhook that says that a record was deleted.
func (b *bundle) claim(ref qbosim.Ref, at time.Time) *ledgerfeedv1.Envelope {
	return b.event(fromWebhook, &ledgerfeedv1.Event{Entity: ref.Entity, EntityId: ref.ID, Operation: deleted, OccurredAt: timestamppb.New(at)})
}

// A webhook that claims the deletion of a record that is there deletes nothing, whenever
// it says that was.
func TestDeletion_AWrongClaimDeletesNothing(t *testing.T) {
	t.Parallel()
	for name, offset := range map[string]time.Duration{"now": 0, "a year ago": -365 * 24 * time.Hour, "in a year": 365 * 24 * time.Hour} {
		for _, entity := range []string{"Invoice", "Customer", "TimeActivity"} {
			t.Run(entity+" "+name, func(t *testing.T) {
				t.Parallel()
				b := setup(t)
				p := b.start()
				ref := b.create(entity, nil)
				b.deliver(p)
				b.clock.Advance(time.Hour)
				b.publish(b.claim(ref, b.clock.Now().Add(offset)))
				b.settle(p)
				b.requireEqual()
				b.clock.Advance(time.Hour)
				require.NoError(t, b.sim.Update(ref, nil))
				b.deliver(p)
				b.requireEqual()
				require.Empty(t, b.dead())
				b.a.requireOnce(t)
			})
		}
	}
}

// The record is gone, and the claim says that it will be in a year: the tombstone is not
// later than the answer, so that a record that QuickBooks brings back is delivered.
func TestDeletion_ATombstoneIsNeverLaterThanTheAnswer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start()
	bill := b.create("Bill", nil)
	b.deliver(p)
	b.clock.Advance(time.Hour)
	require.NoError(t, b.sim.Delete(bill))
	b.webhooks() // lost
	b.publish(b.claim(bill, b.clock.Now().Add(365*24*time.Hour)))
	b.settle(p)
	for _, s := range []*memory{b.a, b.b} {
		gone := s.last(t, bill)
		require.True(t, gone.GetDeleted())
		require.False(t, gone.GetLastUpdated().AsTime().After(b.clock.Now()))
		require.False(t, qbo.VersionTime(gone.GetVersion()).After(b.clock.Now()))
	}
	require.False(t, b.marks("a", "Bill", bill.ID).Covered.After(b.clock.Now()))
}

// A read that fails is no evidence, however often it does.
func TestDeletion_AFailedReadIsNoEvidence(t *testing.T) {
	t.Parallel()
	for _, entity := range []string{"Invoice", "Vendor", "TimeActivity"} {
		t.Run(entity, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			p := b.start()
			ref := b.create(entity, nil)
			b.deliver(p)
			b.clock.Advance(time.Hour)
			var failed atomic.Int64
			fails := func(r *http.Request) bool { return failed.Add(1) <= 3 }
			b.broken.Store(&fails)
			b.publish(b.claim(ref, b.clock.Now()))
			b.settle(p)
			require.Greater(t, failed.Load(), int64(3))
			b.requireEqual()
			require.Len(t, b.a.of(ref), 1, "it was never gone")
		})
	}
}

// A name list record that CDC calls deleted and a read shows is there.
func TestDeletion_CDCIsNotEnoughForANameList(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start()
	vendor := b.create("Vendor", nil)
	b.deliver(p)
	b.clock.Advance(time.Hour)
	b.publish(b.event(fromCDC, &ledgerfeedv1.Event{
		Entity: "Vendor", EntityId: vendor.ID, Operation: deleted, Version: qbo.TombstoneVersion(b.clock.Now()), Evidence: ledgerfeedv1.Evidence_EVIDENCE_CDC,
	}))
	b.settle(p)
	b.requireEqual()
}

// What no CDC has confirmed is noted for the next scan, before it is written.
func TestDeletion_AnUnconfirmedTombstoneIsFollowedUp(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start()
	confirmed, claimed := b.create("Bill", nil), b.create("Invoice", nil)
	b.deliver(p)
	b.clock.Advance(time.Hour)
	require.NoError(t, b.sim.Delete(confirmed))
	require.NoError(t, b.sim.Delete(claimed))
	b.webhooks() // lost
	noted := make(chan int, 10)
	b.a.misbehave(func(ctx context.Context, changes []*ledgerfeedv1.Change) error {
		follow, err := b.store.FollowUps(ctx, realm)
		noted <- len(follow)
		return err
	})
	b.publish(b.event(fromCDC, &ledgerfeedv1.Event{
		Entity: "Bill", EntityId: confirmed.ID, Operation: deleted, Version: latest(t, b, confirmed).Version, Evidence: ledgerfeedv1.Evidence_EVIDENCE_CDC,
	}))
	b.settle(p)
	require.Zero(t, <-noted)
	b.publish(b.claim(claimed, b.clock.Now()))
	b.settle(p)
	require.Equal(t, 1, <-noted)
	follow, err := b.store.FollowUps(t.Context(), realm)
	require.NoError(t, err)
	require.Equal(t, state.Ref{Entity: "Invoice", ID: claimed.ID}, follow[0].Ref)
	require.Equal(t, state.FollowUpTombstone, follow[0].Kind)
	b.requireEqual()
}

// wrong gives the sinks a tombstone of a record that is there, as an older version did.
func (b *bundle) wrong(p running, ref qbosim.Ref, at time.Time) {
	b.t.Helper()
	b.publish(b.event(fromCDC, &ledgerfeedv1.Event{
		Entity: ref.Entity, EntityId: ref.ID, Operation: deleted, Version: qbo.TombstoneVersion(at), Evidence: ledgerfeedv1.Evidence_EVIDENCE_CDC,
	}))
	b.settle(p)
	require.True(b.t, b.a.all()[ref].GetDeleted())
}

// The scan finds the record of a wrong tombstone, of a time that is yet to come: it is
// written although its version is lower, to each sink that holds the tombstone, also to
// one that is away just then.
func TestRestored_ReplacesATombstoneAtEverySink(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start()
	invoice := b.create("Invoice", nil)
	b.deliver(p)
	b.wrong(p, invoice, b.clock.Now().Add(365*24*time.Hour))
	truth := latest(t, b, invoice)
	var refused atomic.Int64
	b.b.misbehave(func(context.Context, []*ledgerfeedv1.Change) error {
		if refused.Add(1) <= 2 {
			return errors.New("away")
		}
		return nil
	})
	b.clock.Advance(time.Hour)
	b.publish(b.event(ledgerfeedv1.Source_SOURCE_RESTORED, &ledgerfeedv1.Event{
		Id: "scan/Invoice/1", Entity: "Invoice", EntityId: invoice.ID, Operation: updated, Version: truth.Version,
	}))
	b.settle(p)
	for _, s := range []*memory{b.a, b.b} {
		all := s.of(invoice)
		last := all[len(all)-1]
		require.Equal(t, ledgerfeedv1.Source_SOURCE_RESTORED, last.GetSource(), s.name)
		require.Equal(t, truth.Version, last.GetVersion())
		require.JSONEq(t, string(truth.Raw), string(last.GetDocument()))
	}
	require.Equal(t, truth.Version, b.marks("a", "Invoice", invoice.ID).Version)

	// It is a record like any other again.
	b.clock.Advance(time.Minute)
	require.NoError(t, b.sim.Update(invoice, nil))
	b.deliver(p)
	all := b.b.of(invoice)
	require.Equal(t, latest(t, b, invoice).Version, all[len(all)-1].GetVersion())

	// The message comes again: it has been restored.
	n := b.a.count()
	b.publish(b.event(ledgerfeedv1.Source_SOURCE_RESTORED, &ledgerfeedv1.Event{
		Id: "scan/Invoice/1", Entity: "Invoice", EntityId: invoice.ID, Operation: updated, Version: truth.Version,
	}))
	b.settle(p)
	require.Equal(t, n, b.a.count())
}

// QuickBooks has deleted it meanwhile: what is restored must be there.
func TestRestored_IsNothingIfTheRecordIsGone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start()
	invoice := b.create("Invoice", nil)
	b.deliver(p)
	b.clock.Advance(time.Minute)
	version := latest(t, b, invoice).Version
	require.NoError(t, b.sim.Delete(invoice))
	b.deliver(p)
	n := b.a.count()
	b.publish(b.event(ledgerfeedv1.Source_SOURCE_RESTORED, &ledgerfeedv1.Event{Entity: "Invoice", EntityId: invoice.ID, Operation: updated, Version: version}))
	b.settle(p)
	require.Equal(t, n, b.a.count())
	b.requireEqual()
}

// A state with a higher version than a tombstone wins, whoever tells of it.
func TestTombstone_IsNotFinal(t *testing.T) {
	t.Parallel()
	for name, source := range map[string]ledgerfeedv1.Source{"webhook": fromWebhook, "cdc": fromCDC, "query": ledgerfeedv1.Source_SOURCE_QUERY, "replay": fromReplay} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			p := b.start()
			bill := b.create("Bill", nil)
			b.deliver(p)
			b.clock.Advance(time.Minute)
			b.wrong(p, bill, b.clock.Now())
			b.clock.Advance(time.Minute)
			require.NoError(t, b.sim.Update(bill, nil))
			b.webhooks() // lost, unless it is published below
			truth := latest(t, b, bill)
			e := &ledgerfeedv1.Event{Entity: "Bill", EntityId: bill.ID, Operation: updated, OccurredAt: timestamppb.New(b.clock.Now())}
			if source != fromWebhook {
				e.Version = truth.Version
			}
			b.publish(b.event(source, e))
			b.settle(p)
			b.requireEqual()
		})
	}
}

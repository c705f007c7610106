package processor_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// mergedEarly is a webhook of a merge that comes while the record is still there.
func (b *bundle) mergedEarly(survivor, away qbosim.Ref) *ledgerfeedv1.Envelope {
	return b.event(fromWebhook, &ledgerfeedv1.Event{
		Id: "merged", Entity: survivor.Entity, EntityId: survivor.ID, Operation: ledgerfeedv1.Operation_OPERATION_MERGE,
		MergedId: away.ID, OccurredAt: timestamppb.New(b.clock.Now()),
	})
}

// A record that was merged away can stay readable for days. Whatever tells of its end
// then, the tombstone says which record took its place.
func TestMerge_IsKeptUntilTheRecordDisappears(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*bundle, qbosim.Ref) *ledgerfeedv1.Envelope{
		"webhook": func(b *bundle, away qbosim.Ref) *ledgerfeedv1.Envelope {
			return b.claim(away, b.clock.Now())
		},
		"cdc": func(b *bundle, away qbosim.Ref) *ledgerfeedv1.Envelope {
			return b.event(fromCDC, &ledgerfeedv1.Event{
				Entity: away.Entity, EntityId: away.ID, Operation: deleted,
				Version: qbo.TombstoneVersion(b.clock.Now()), Evidence: ledgerfeedv1.Evidence_EVIDENCE_CDC,
			})
		},
		"sweep": func(b *bundle, away qbosim.Ref) *ledgerfeedv1.Envelope {
			return b.event(ledgerfeedv1.Source_SOURCE_QUERY, &ledgerfeedv1.Event{
				Entity: away.Entity, EntityId: away.ID, Operation: deleted, Version: qbo.TombstoneVersion(b.clock.Now()),
			})
		},
		"the merge told of again": func(b *bundle, away qbosim.Ref) *ledgerfeedv1.Envelope {
			return b.event(fromReplay, &ledgerfeedv1.Event{Entity: away.Entity, EntityId: away.ID, Operation: updated})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			p := b.start()
			survivor, away := b.create("Vendor", nil), b.create("Vendor", nil)
			b.deliver(p)
			b.clock.Advance(time.Minute)
			b.publish(b.mergedEarly(survivor, away))
			b.settle(p)
			require.False(t, b.a.last(t, away).GetDeleted(), "it is still readable")
			p.stop() // what is kept outlives the process

			b.clock.Advance(7 * 24 * time.Hour)
			require.NoError(t, b.sim.Merge(survivor, away))
			b.webhooks() // lost
			b.clock.Advance(time.Minute)
			p = b.start()
			b.publish(end(b, away))
			b.settle(p)
			for _, s := range []*memory{b.a, b.b} {
				gone := s.last(t, away)
				require.True(t, gone.GetDeleted(), s.name)
				require.Equal(t, survivor.ID, gone.GetMergedInto(), s.name)
			}
			require.Empty(t, b.dead())
		})
	}
}

// The sink that was away gets the same tombstone, later.
func TestMerge_IsKeptForASinkThatIsAway(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start()
	survivor, away := b.create("Customer", nil), b.create("Customer", nil)
	b.deliver(p)
	b.clock.Advance(time.Minute)
	b.publish(b.mergedEarly(survivor, away))
	b.settle(p)
	b.clock.Advance(time.Hour)
	require.NoError(t, b.sim.Merge(survivor, away))
	b.webhooks()
	var refused atomic.Int64
	b.b.misbehave(func(context.Context, []*ledgerfeedv1.Change) error {
		if refused.Add(1) <= 2 {
			return errors.New("away")
		}
		return nil
	})
	b.publish(b.claim(away, b.clock.Now()))
	b.settle(p)
	require.GreaterOrEqual(t, refused.Load(), int64(2))
	require.Equal(t, survivor.ID, b.b.last(t, away).GetMergedInto())
}

// A deletion of what nobody has merged names no survivor, nor does one of another realm.
func TestMerge_IsOfOneRecordOfOneRealm(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start()
	away := b.create("Vendor", nil)
	b.deliver(p)
	for _, ref := range []state.Ref{{Entity: "Vendor", ID: away.ID + "0"}, {Entity: "Customer", ID: away.ID}} {
		require.NoError(t, b.store.NoteMerges(t.Context(), realm, map[state.Ref]string{ref: "9"}))
	}
	require.NoError(t, b.store.NoteMerges(t.Context(), other, map[state.Ref]string{{Entity: "Vendor", ID: away.ID}: "9"}))
	b.clock.Advance(time.Minute)
	require.NoError(t, b.sim.HardDelete(away))
	b.webhooks()
	b.publish(b.claim(away, b.clock.Now()))
	b.settle(p)
	require.True(t, b.a.last(t, away).GetDeleted())
	require.Empty(t, b.a.last(t, away).GetMergedInto())
}

// Events of a parked realm are acked, and no scan finds a merge.
func TestMerge_OfAParkedRealmIsKept(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start()
	survivor, away := b.create("Vendor", nil), b.create("Vendor", nil)
	b.deliver(p)
	require.NoError(t, b.connections.SetState(t.Context(), realm, connection.Parked, "a person"))
	b.clock.Advance(time.Minute)
	b.publish(b.mergedEarly(survivor, away))
	b.settle(p)
	into, err := b.store.Merges(t.Context(), realm, []state.Ref{{Entity: "Vendor", ID: away.ID}, {Entity: "Vendor", ID: survivor.ID}})
	require.NoError(t, err)
	require.Equal(t, []string{survivor.ID, ""}, into)
}

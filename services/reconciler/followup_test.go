package reconciler_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/reconciler"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

func (b *bundle) followUp(kind state.FollowUpKind, ref qbosim.Ref, since time.Time) {
	b.t.Helper()
	require.NoError(b.t, b.store.NoteFollowUps(b.t.Context(), b.realm, []state.FollowUp{{
		Ref: state.Ref{Entity: ref.Entity, ID: ref.ID}, Kind: kind, Since: since, First: b.clock.Now(),
	}}))
}

func (b *bundle) followUps() []state.FollowUp {
	b.t.Helper()
	all, err := b.store.FollowUps(b.t.Context(), b.realm)
	require.NoError(b.t, err)
	return all
}

// bury has the sinks hold a tombstone of a record.
func (b *bundle) bury(ref qbosim.Ref, at time.Time) {
	b.t.Helper()
	b.feed.mu.Lock()
	defer b.feed.mu.Unlock()
	change := state.Advance{Ref: state.Ref{Entity: ref.Entity, ID: ref.ID}, Version: qbo.TombstoneVersion(at)}
	require.NoError(b.t, b.feed.deliverLocked(b.t.Context(), b.realm, []state.Advance{change}))
}

// A record that QuickBooks has and a sink calls deleted is restored by the next scan,
// although it has not changed since, and the ledger of gaps says so.
func TestFollowUp_AWrongTombstoneIsRestored(t *testing.T) {
	for _, entity := range []string{"Invoice", "Customer", "TimeActivity"} {
		for name, at := range map[string]time.Duration{"past": -time.Hour, "future": 365 * 24 * time.Hour} {
			t.Run(entity+" "+name, func(t *testing.T) {
				b, r := loaded(t, 5)
				ref := b.create(entity)
				b.webhook(ref)
				b.clock.Advance(24 * time.Hour)
				b.bury(ref, b.clock.Now().Add(at))
				b.followUp(state.FollowUpTombstone, ref, b.clock.Now().Add(-time.Hour))
				b.scheduled(r)
				require.Eventually(t, b.equal, patient, time.Millisecond, "%v", b.difference("ledger"))
				require.Len(t, b.followUps(), 1, "it is kept until a scan has seen it delivered")
				gaps, err := b.store.Gaps(t.Context(), b.realm, 100)
				require.NoError(t, err)
				var verdicts []string
				for _, g := range gaps {
					if g.Ref == (state.Ref{Entity: ref.Entity, ID: ref.ID}) {
						verdicts = append(verdicts, g.Verdict)
					}
				}
				require.Equal(t, []string{state.VerdictRestored}, verdicts)
				b.clock.Advance(5 * time.Minute)
				b.scheduled(r)
				require.Empty(t, b.followUps())
			})
		}
	}
}

// The note of a tombstone is gone with Redis. The load that follows is shown the record,
// and restores it; one that was deleted a moment ago it leaves alone.
func TestFollowUp_AWrongTombstoneIsRestoredWithoutItsNote(t *testing.T) {
	for _, entity := range []string{"Bill", "Vendor", "TimeActivity"} {
		t.Run(entity, func(t *testing.T) {
			b, r := loaded(t, 5)
			ref := b.create(entity)
			b.webhook(ref)
			for range 2 { // the second scan ends the first one's overlap
				b.clock.Advance(24 * time.Hour)
				b.scheduled(r)
			}
			b.bury(ref, b.clock.Now().Add(-time.Hour))
			require.NoError(t, b.store.RewindCursors(t.Context(), b.realm, nil, time.Time{}))
			b.scheduled(r)
			require.Eventually(t, b.equal, patient, time.Millisecond, "%v", b.difference("ledger"))
			b.clock.Advance(5 * time.Minute)
			b.scheduled(r)
			require.Empty(t, b.followUps())
		})
	}
	b, r := loaded(t, 5)
	ref := b.create("Bill")
	b.webhook(ref)
	b.clock.Advance(24 * time.Hour)
	require.NoError(t, b.sim.Delete(ref))
	b.bury(ref, b.clock.Now())
	b.sim.SetFaults(qbosim.Faults{ReadLag: 5 * time.Minute})
	require.NoError(t, b.store.RewindCursors(t.Context(), b.realm, nil, time.Time{}))
	b.scheduled(r)
	require.True(t, qbo.IsTombstone(b.feed.version(ref)))
	b.clock.Advance(15 * time.Minute)
	b.scheduled(r)
	require.Empty(t, b.followUps())
	b.requireEqual()
}

// What CDC calls deleted needs no further call; what it says nothing of costs one for all.
func TestFollowUp_ATombstoneIsConfirmed(t *testing.T) {
	b, r := loaded(t, 0)
	var invoices, activities []qbosim.Ref
	for range 20 {
		invoices, activities = append(invoices, b.create("Invoice")), append(activities, b.create("TimeActivity"))
	}
	b.clock.Advance(time.Hour)
	b.reconcile(r)
	b.clock.Advance(time.Hour)
	quiet := b.scheduled(r).Calls
	gone := func(refs []qbosim.Ref) {
		for _, ref := range refs {
			require.NoError(t, b.sim.Delete(ref))
			b.bury(ref, b.clock.Now())
			b.followUp(state.FollowUpTombstone, ref, b.clock.Now())
		}
	}
	gone(invoices)
	b.clock.Advance(time.Hour)
	require.Equal(t, quiet, b.scheduled(r).Calls, "CDC has told")
	require.Empty(t, b.followUps())
	gone(activities)
	b.clock.Advance(time.Hour)
	require.LessOrEqual(t, b.scheduled(r).Calls, quiet+1, "one Query for twenty")
	require.Empty(t, b.followUps())
	b.requireEqual()
}

// A read that may be late restores nothing: the record was deleted a moment ago.
func TestFollowUp_ALateReadRestoresNothing(t *testing.T) {
	b, r := loaded(t, 0)
	invoice := b.create("Invoice")
	b.webhook(invoice)
	b.clock.Advance(time.Hour)
	require.NoError(t, b.sim.Delete(invoice))
	b.bury(invoice, b.clock.Now())
	b.followUp(state.FollowUpTombstone, invoice, b.clock.Now())
	b.clock.Advance(2 * time.Minute)
	b.sim.SetFaults(qbosim.Faults{ReadLag: 5 * time.Minute})
	b.scheduled(r)
	require.Len(t, b.followUps(), 1)
	require.True(t, qbo.IsTombstone(b.feed.version(invoice)))
	due, err := b.store.Due(t.Context(), b.realm)
	require.NoError(t, err)
	require.WithinDuration(t, b.clock.Now(), due, maxFollowUp)
	b.clock.Advance(15 * time.Minute)
	b.scheduled(r)
	require.Empty(t, b.followUps())
	b.requireEqual()
}

const maxFollowUp = 15 * time.Minute

// An event whose read was too old is followed up by one scan, whose grace does not leave
// the change to the webhook that it had.
func TestFollowUp_AReadOlderThanItsEventIsMadeAgain(t *testing.T) {
	for _, entity := range []string{"Bill", "Vendor", "TimeActivity"} {
		t.Run(entity, func(t *testing.T) {
			b, r := loaded(t, 0)
			ref := b.create(entity)
			b.webhook(ref)
			b.clock.Advance(time.Hour)
			require.NoError(t, b.sim.Update(ref, nil))
			b.followUp(state.FollowUpRead, ref, b.clock.Now()) // the read showed the state of before
			b.clock.Advance(2 * time.Minute)
			b.scheduled(r)
			require.Eventually(t, b.equal, patient, time.Millisecond)
			b.clock.Advance(5 * time.Minute)
			b.scheduled(r)
			require.Empty(t, b.followUps())
		})
	}
}

// An event of a record that no scan shows becomes a dead letter, after two looks that are
// too late to be explained by lag.
func TestFollowUp_AMissingRecordBecomesADeadLetter(t *testing.T) {
	b, r := loaded(t, 0)
	b.followUp(state.FollowUpRead, qbosim.Ref{Realm: realm, Entity: "Bill", ID: "4711"}, b.clock.Now())
	dead := func() []stream.DeadLetter {
		all, err := b.conn.DeadLetters(t.Context(), 10)
		require.NoError(t, err)
		return all
	}
	for _, after := range []time.Duration{2 * time.Minute, 4 * time.Minute} {
		b.clock.Advance(after)
		b.scheduled(r)
		require.Empty(t, dead())
		require.Len(t, b.followUps(), 1)
	}
	b.clock.Advance(20 * time.Minute)
	b.scheduled(r)
	require.Empty(t, b.followUps())
	require.Len(t, dead(), 1)
	require.Equal(t, stream.ReasonNotFound, dead()[0].Reason)
	require.Equal(t, "4711", dead()[0].Envelope.GetEvents()[0].GetEntityId())
}

// A look that fails says nothing, and neither ends nor counts.
func TestFollowUp_AFailedLookIsNone(t *testing.T) {
	b, _ := loaded(t, 0)
	ref := b.create("Invoice")
	b.webhook(ref)
	b.clock.Advance(time.Hour)
	b.bury(ref, b.clock.Now().Add(-30*time.Minute))
	b.followUp(state.FollowUpTombstone, ref, b.clock.Now().Add(-30*time.Minute))
	var failing atomic.Bool
	failing.Store(true)
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if failing.Load() && strings.Contains(q.URL.Query().Get("query"), "Id IN") {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		b.sim.Handler().ServeHTTP(w, q)
	}))
	t.Cleanup(api.Close)
	b.client = b.newClient(api.URL)
	r := b.reconciler()
	before := b.followUps()
	b.scheduled(r)
	require.Equal(t, before, b.followUps())
	require.True(t, qbo.IsTombstone(b.feed.version(ref)))
	due, err := b.store.Due(t.Context(), b.realm)
	require.NoError(t, err)
	require.WithinDuration(t, b.clock.Now(), due, maxFollowUp, "it does not wait for the next day")
	failing.Store(false)
	b.scheduled(r)
	require.Eventually(t, b.equal, patient, time.Millisecond)
}

// A record that fails every Query it is in does not keep the others from being looked at.
func TestFollowUp_APoisonRecordHoldsUpNoOther(t *testing.T) {
	b, r := loaded(t, 0)
	var refs []qbosim.Ref
	for range 5 {
		refs = append(refs, b.create("TimeActivity"))
		b.webhook(refs[len(refs)-1])
	}
	b.clock.Advance(time.Hour)
	for _, ref := range refs {
		b.bury(ref, b.clock.Now().Add(-30*time.Minute))
		b.followUp(state.FollowUpTombstone, ref, b.clock.Now().Add(-30*time.Minute))
	}
	b.sim.SetFaults(qbosim.Faults{Poison: refs[2:3]})
	report := b.request(r, reconciler.Request{Realms: []string{realm}, Entities: []string{"TimeActivity"}, Grace: b.config.Grace})
	require.Empty(t, report.Errors)
	for i, ref := range refs {
		if i != 2 {
			require.Eventually(t, func() bool { return b.feed.version(ref) == b.sim.Truth(realm)[ref].Version }, patient, time.Millisecond)
		}
	}
	require.True(t, qbo.IsTombstone(b.feed.version(refs[2])))
	require.Len(t, b.followUps(), 5)
}

// A tombstone is not final: the scan of a record that was changed since delivers it, also
// where nobody has noted that the tombstone may be wrong.
func TestScan_AStateNewerThanATombstoneIsDelivered(t *testing.T) {
	for _, entity := range []string{"Invoice", "Item", "TimeActivity"} {
		t.Run(entity, func(t *testing.T) {
			b, r := loaded(t, 0)
			ref := b.create(entity)
			b.webhook(ref)
			b.clock.Advance(time.Hour)
			b.bury(ref, b.clock.Now())
			b.clock.Advance(time.Hour)
			require.NoError(t, b.sim.Update(ref, nil))
			b.clock.Advance(8 * 24 * time.Hour)
			b.reconcile(r)
			b.requireEqual()
		})
	}
}

// A document that differs from what was delivered at its version is published again, and
// holds back no cursor.
func TestScan_AnotherDocumentOfAVersionIsPublished(t *testing.T) {
	for name, load := range map[string]bool{"scan": false, "backfill": true} {
		t.Run(name, func(t *testing.T) {
			b, r := loaded(t, 0)
			same, other := b.create("Customer"), b.create("Customer")
			truth := b.sim.Truth(realm)
			for ref, hash := range map[qbosim.Ref]string{same: qbo.ContentHash(truth[same].Raw), other: "another"} {
				require.NoError(t, b.store.Advance(t.Context(), realm, "ledger", []state.Advance{{
					Ref: state.Ref{Entity: ref.Entity, ID: ref.ID}, Version: truth[ref].Version, Hash: hash,
				}}))
			}
			b.clock.Advance(time.Hour)
			b.feed.forget()
			report := b.request(r, reconciler.Request{Realms: []string{b.realm}, Load: load, Wait: true})
			require.Empty(t, report.Errors)
			require.Equal(t, 1, report.Verified)
			require.Eventually(t, func() bool { return len(b.feed.seen()) == 1 }, patient, time.Millisecond)
			event := b.feed.seen()[0]
			require.Equal(t, []string{other.ID, qbo.ContentHash(truth[other].Raw)}, []string{event.GetEntityId(), event.GetContentHash()})
			require.Equal(t, ledgerfeedv1.Operation_OPERATION_UPDATE, event.GetOperation())
		})
	}
}

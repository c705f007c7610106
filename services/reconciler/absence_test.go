package reconciler_test

import (
	"bytes"
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
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
	"github.com/ledgerfeed/ledgerfeed/services/reconciler"
)

// scheduled scans as the schedule does it: with the grace, and nothing is at rest.
func (b *bundle) scheduled(r *reconciler.Reconciler) reconciler.Report {
	b.t.Helper()
	report := b.request(r, reconciler.Request{Realms: []string{b.realm}, Grace: b.config.Grace, Wait: true})
	require.Empty(b.t, report.Errors)
	return report
}

func (b *bundle) gone(ref qbosim.Ref) bool { return qbo.IsTombstone(b.feed.version(ref)) }

// evidence is what the deletion of a record rested on, in the order of its events.
func (b *bundle) evidence(ref qbosim.Ref) (all []ledgerfeedv1.Evidence) {
	for _, e := range b.feed.seen() {
		if e.GetEntity() == ref.Entity && e.GetEntityId() == ref.ID && e.GetOperation() == ledgerfeedv1.Operation_OPERATION_DELETE {
			all = append(all, e.GetEvidence())
		}
	}
	return all
}

// QuickBooks' read replica is five minutes late for one scan. A TimeActivity that was
// delivered four minutes ago does not show.
func TestAbsence_AReplicaThatIsLateForOnceMakesNoDeletionForGood(t *testing.T) {
	t.Parallel()
	b, r := loaded(t, 0)
	b.clock.Advance(time.Hour)
	ref := b.create("TimeActivity")
	b.webhook(ref) // delivered at once
	b.clock.Advance(4 * time.Minute)
	b.sim.SetFaults(qbosim.Faults{ReadLag: 5 * time.Minute})
	b.scheduled(r)
	require.Len(t, b.noted(), 1)
	b.sim.SetFaults(qbosim.Faults{})
	b.clock.Advance(24 * time.Hour)
	require.NoError(t, b.sim.Update(ref, nil)) // it lives, and is changed
	b.clock.Advance(8 * 24 * time.Hour)
	b.reconcile(r)
	b.requireEqual()
	require.Empty(t, b.noted(), "it was returned")
}

func TestAbsence_TheSecondLookDecides(t *testing.T) {
	t.Parallel()
	b, r := loaded(t, 0)
	kept, gone := b.many("TimeActivity", 5), b.create("TimeActivity")
	b.clock.Advance(time.Hour)
	b.reconcile(r)
	b.clock.Advance(24 * time.Hour)
	b.delete(gone)
	b.clock.Advance(time.Hour)
	first := b.clock.Now()
	b.scheduled(r)
	require.Len(t, b.noted(), 1)
	require.False(t, b.gone(gone), "one answer is none")
	due, err := b.store.Due(t.Context(), realm)
	require.NoError(t, err)
	require.WithinRange(t, due, first.Add(15*time.Minute), first.Add(20*time.Minute))

	b.clock.Advance(14 * time.Minute)
	b.scheduled(r)
	require.False(t, b.gone(gone), "too soon after the first")
	b.clock.Advance(2 * time.Minute)
	b.sim.SetFaults(qbosim.Faults{Error5xx: 1})
	b.request(r, reconciler.Request{Realms: []string{realm}, Grace: b.config.Grace})
	require.False(t, b.gone(gone), "a read that failed proves nothing")
	b.sim.SetFaults(qbosim.Faults{})
	b.scheduled(r)
	require.True(t, b.gone(gone))
	require.Equal(t, []ledgerfeedv1.Evidence{ledgerfeedv1.Evidence_EVIDENCE_SWEEPS}, b.evidence(gone))
	for _, ref := range kept {
		require.False(t, b.gone(ref))
	}
	b.scheduled(r)
	require.Empty(t, b.noted(), "every sink has the tombstone")
	require.Len(t, b.evidence(gone), 1)
}

// The event of the deletion is lost with the broker, after the cursor has moved.
func TestAbsence_ADeletionIsRememberedUntilItIsDelivered(t *testing.T) {
	t.Parallel()
	b, r := loaded(t, 0)
	b.many("TimeActivity", 5)
	gone := b.create("TimeActivity")
	b.clock.Advance(time.Hour)
	b.reconcile(r)
	b.delete(gone)
	b.clock.Advance(time.Hour)
	b.scheduled(r)
	b.clock.Advance(20 * time.Minute)
	b.feed.losing(func(e *ledgerfeedv1.Event) bool { return e.GetEntityId() == gone.ID })
	b.request(r, reconciler.Request{Realms: []string{realm}, Grace: b.config.Grace})
	require.Eventually(t, func() bool { return len(b.evidence(gone)) == 1 }, patient, time.Millisecond)
	b.feed.losing(nil)
	b.clock.Advance(24 * time.Hour)
	b.scheduled(b.reconciler())
	require.True(t, b.gone(gone))
	b.requireEqual()
}

func TestAbsence_CDCsDeletionsSaySo(t *testing.T) {
	t.Parallel()
	b, r := loaded(t, 0)
	ref := b.create("Invoice")
	b.clock.Advance(time.Hour)
	b.reconcile(r)
	b.delete(ref)
	b.clock.Advance(time.Hour)
	b.scheduled(r)
	require.Equal(t, []ledgerfeedv1.Evidence{ledgerfeedv1.Evidence_EVIDENCE_CDC}, b.evidence(ref))
}

// silent is a QuickBooks whose CDC names no deletion.
func (b *bundle) silent() {
	b.between(func(w http.ResponseWriter, r *http.Request, quickbooks http.Handler) {
		if !strings.HasSuffix(r.URL.Path, "/cdc") {
			quickbooks.ServeHTTP(w, r)
			return
		}
		answer := httptest.NewRecorder()
		quickbooks.ServeHTTP(answer, r)
		_, _ = w.Write(withoutDeletions(answer.Body.Bytes()))
	})
}

// withoutDeletions takes the deleted objects out of a CDC answer.
func withoutDeletions(body []byte) []byte {
	for {
		at := bytes.Index(body, []byte(`"status":"Deleted"`))
		if at < 0 {
			return body
		}
		from := bytes.LastIndexByte(body[:at], '{')
		depth, to := 0, from
		for ; ; to++ {
			switch body[to] {
			case '{':
				depth++
			case '}':
				depth--
			}
			if depth == 0 {
				break
			}
		}
		to++
		if body[to] == ',' {
			to++
		} else if body[from-1] == ',' {
			from--
		}
		body = append(body[:from:from], body[to:]...)
	}
}

// A record goes without a webhook and without a word of CDC: merged away, or cut off.
func TestAbsence_ASilentDeletionIsFoundWithinAWeek(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"Vendor", "Class", "Invoice", "Deposit", "TaxRate"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, r := loaded(t, 0)
			kept, gone := b.many(name, 12), b.create(name)
			b.clock.Advance(time.Hour)
			b.reconcile(r)
			b.silent()
			r = b.reconciler()
			b.clock.Advance(24 * time.Hour)
			b.delete(gone)
			b.untilNoted(r, 1)
			b.clock.Advance(16 * time.Minute)
			b.scheduled(r)
			require.True(t, b.gone(gone))
			for _, ref := range kept {
				require.False(t, b.gone(ref))
			}
		})
	}
}

func TestAbsence_AWeeklyCountCostsACallForEachEntityInUse(t *testing.T) {
	t.Parallel()
	b, r := loaded(t, 0)
	b.many("Invoice", 3)
	b.many("Vendor", 3)
	b.clock.Advance(time.Hour)
	b.reconcile(r)
	b.config.QueryInterval = 100 * 24 * time.Hour // not what this is about
	r = b.reconciler()
	var counts []int
	var n atomic.Int32
	b.between(func(w http.ResponseWriter, r *http.Request, quickbooks http.Handler) {
		if strings.HasPrefix(r.URL.Query().Get("query"), "SELECT COUNT(*)") {
			n.Add(1)
		}
		quickbooks.ServeHTTP(w, r)
	})
	b.config.QueryInterval = 0
	b.config.QueryEntities = nil
	r = b.reconciler()
	for range 21 {
		b.clock.Advance(24 * time.Hour)
		b.scheduled(r)
		counts = append(counts, int(n.Swap(0)))
	}
	total := 0
	for _, n := range counts {
		require.LessOrEqual(t, n, 2)
		total += n
	}
	require.Contains(t, []int{2 * 2, 5, 3 * 2}, total, "%v: each of two in its own week", counts)
}

// Budgets have an Active flag that Query filters by, though the reference does not say
// so: one that is inactive shows only where it is named.
func TestAbsence_AFilterThatHidesRecordsMakesNoDeletions(t *testing.T) {
	t.Parallel()
	for name, honours := range map[string]bool{"and names them": true, "and ignores the condition": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, r := loaded(t, 0)
			kind := "Budget"
			if !honours {
				kind = "Department"
			}
			refs := b.many(kind, 8)
			b.clock.Advance(time.Hour)
			b.reconcile(r)
			hidden := refs[3]
			b.between(func(w http.ResponseWriter, r *http.Request, quickbooks http.Handler) {
				query := r.URL.Query().Get("query")
				if !strings.Contains(query, "FROM "+kind) {
					quickbooks.ServeHTTP(w, r)
					return
				}
				named := strings.Contains(query, "Active IN (true, false)")
				if honours && named {
					query = strings.Replace(query, "Active IN (true, false) AND ", "", 1)
					query = strings.Replace(query, " WHERE Active IN (true, false)", "", 1)
				}
				if strings.Contains(query, "Active = false") {
					_, _ = w.Write([]byte(`{"QueryResponse":{"totalCount":1},"time":"` + b.clock.Now().Format(time.RFC3339) + `"}`))
					return
				}
				answer := httptest.NewRecorder()
				q := r.URL.Query()
				q.Set("query", query)
				r.URL.RawQuery = q.Encode()
				quickbooks.ServeHTTP(answer, r)
				body := answer.Body.Bytes()
				if !honours || !named {
					body = without(body, hidden.ID)
				}
				_, _ = w.Write(body)
			})
			r = b.reconciler()
			for range 16 {
				b.clock.Advance(12 * time.Hour)
				b.scheduled(r)
			}
			b.clock.Advance(20 * time.Minute)
			b.scheduled(r)
			for _, ref := range refs {
				require.False(t, b.gone(ref), "%v", ref)
			}
		})
	}
}

// without takes a record out of a Query answer, or one off a count.
func without(body []byte, id string) []byte {
	body = bytes.Replace(body, []byte(`"totalCount":8`), []byte(`"totalCount":7`), 1)
	body = bytes.Replace(body, []byte(`"status":"Deleted"`), nil, 1)
	at := bytes.Index(body, []byte(`"Id":"`+id+`"`))
	if at < 0 {
		return body
	}
	marked := append(append(bytes.Clone(body[:at]), []byte(`"status":"Deleted",`)...), body[at:]...)
	return withoutDeletions(marked)
}

// heldOf is what is held of an entity.
func (b *bundle) heldOf(entity string) state.HeldDeletion {
	b.t.Helper()
	h, err := b.store.HeldDeletion(b.t.Context(), realm, entity)
	require.NoError(b.t, err)
	return h
}

// massed is a realm in which 30 of 100 records have gone silently, held.
func massed(t *testing.T, name string) (*bundle, *reconciler.Reconciler, []qbosim.Ref) {
	t.Helper()
	b, r := loaded(t, 0)
	refs := b.many(name, 100)
	b.clock.Advance(time.Hour)
	b.reconcile(r)
	b.silent()
	r = b.reconciler()
	b.delete(refs[:30]...)
	b.untilNoted(r, 30)
	b.clock.Advance(20 * time.Minute)
	b.scheduled(r)
	return b, r, refs
}

// untilNoted scans daily until so many records are missed, a week at most.
func (b *bundle) untilNoted(r *reconciler.Reconciler, n int) {
	b.t.Helper()
	for range 7 {
		b.clock.Advance(24 * time.Hour)
		b.scheduled(r)
		if len(b.noted()) > 0 {
			break
		}
	}
	require.Len(b.t, b.noted(), n)
}

func (b *bundle) count(refs []qbosim.Ref) (gone int) {
	for _, ref := range refs {
		if b.gone(ref) {
			gone++
		}
	}
	return gone
}

func TestBreaker_ManyAbsentRecordsWaitForAPerson(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"Customer", "TimeActivity", "Bill"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, r, refs := massed(t, name)
			h := b.heldOf(name)
			require.Equal(t, state.DeletionHeld, h.State)
			require.Equal(t, 30, h.Count)
			require.Equal(t, 100, h.Of)
			require.Len(t, h.Sample, 10)
			require.Zero(t, b.count(refs))
			b.clock.Advance(time.Hour)
			b.scheduled(r)
			require.Zero(t, b.count(refs))
			require.Equal(t, h, b.heldOf(name), "nothing of it has changed")

			_, err := b.store.ApproveDeletion(t.Context(), realm, name, "ann")
			require.NoError(t, err)
			b.scheduled(r)
			require.Equal(t, 30, b.count(refs))
			require.Equal(t, 30, b.count(refs[:30]))
			b.clock.Advance(time.Hour)
			b.scheduled(r)
			require.Empty(t, b.heldOf(name).State, "it is over")
			require.Empty(t, b.noted())
		})
	}
}

func TestBreaker_ASecondScanHoursLaterNeedsNobody(t *testing.T) {
	t.Parallel()
	b, r, refs := massed(t, "Vendor")
	b.clock.Advance(5 * time.Hour)
	b.scheduled(r)
	require.Zero(t, b.count(refs))
	b.clock.Advance(2 * time.Hour)
	b.scheduled(r)
	require.Equal(t, 30, b.count(refs[:30]))
	require.Equal(t, 30, b.count(refs))
}

func TestBreaker_ARejectionKeepsTheRecordsAndStartsAnew(t *testing.T) {
	t.Parallel()
	b, r, refs := massed(t, "Item")
	h, err := b.store.RejectDeletion(t.Context(), realm, "Item", "ann")
	require.NoError(t, err)
	require.Equal(t, 1, h.Rejections)
	require.Empty(t, b.noted())
	_, err = b.store.ApproveDeletion(t.Context(), realm, "Item", "ann")
	require.ErrorIs(t, err, state.ErrNotHeld)
	b.clock.Advance(7 * time.Hour)
	b.scheduled(r)
	require.Zero(t, b.count(refs))

	require.NoError(t, b.store.SetCounted(t.Context(), realm, map[string]time.Time{"Item": b.clock.Now().Add(-8 * 24 * time.Hour)}))
	b.scheduled(r)
	require.Len(t, b.noted(), 30, "observed once more")
	b.clock.Advance(50 * time.Minute)
	b.scheduled(r)
	require.Equal(t, state.DeletionRejected, b.heldOf("Item").State, "it takes four times as long now")
	b.clock.Advance(20 * time.Minute)
	b.scheduled(r)
	require.Equal(t, state.DeletionHeld, b.heldOf("Item").State)
	b.clock.Advance(7 * time.Hour)
	b.scheduled(r)
	require.Zero(t, b.count(refs), "so does the second scan")
	b.clock.Advance(18 * time.Hour)
	b.scheduled(r)
	require.Equal(t, 30, b.count(refs))
}

// Some of the records return before the second scan: it is not the same result.
func TestBreaker_AnotherResultWaitsFromTheBeginning(t *testing.T) {
	t.Parallel()
	b, r, refs := massed(t, "TimeActivity")
	since := b.heldOf("TimeActivity").Since
	// A read returned one after all, and it was delivered.
	one := state.Ref{Entity: refs[0].Entity, ID: refs[0].ID}
	require.NoError(t, b.store.Advance(t.Context(), realm, "ledger", []state.Advance{{Ref: one, Version: b.feed.version(refs[0]) + 1}}))
	b.clock.Advance(7 * time.Hour)
	b.scheduled(r)
	require.Zero(t, b.count(refs))
	require.Equal(t, state.DeletionHeld, b.heldOf("TimeActivity").State)
	require.True(t, b.heldOf("TimeActivity").Since.After(since))
	require.Equal(t, 29, b.heldOf("TimeActivity").Count)
}

// What is approved is asked for once more.
func TestBreaker_AnApprovalDeletesNothingThatIsThere(t *testing.T) {
	t.Parallel()
	b, _ := loaded(t, 0)
	refs := b.many("TimeActivity", 100)
	b.clock.Advance(time.Hour)
	b.reconcile(b.reconciler())
	var empty atomic.Bool
	empty.Store(true)
	b.between(func(w http.ResponseWriter, r *http.Request, quickbooks http.Handler) {
		query := r.URL.Query().Get("query")
		switch {
		case !empty.Load() || !strings.Contains(query, "FROM TimeActivity"):
			quickbooks.ServeHTTP(w, r)
		case strings.Contains(query, "COUNT"):
			_, _ = w.Write([]byte(`{"QueryResponse":{"totalCount":0},"time":"` + b.clock.Now().Format(time.RFC3339) + `"}`))
		default:
			_, _ = w.Write([]byte(`{"QueryResponse":{},"time":"` + b.clock.Now().Format(time.RFC3339) + `"}`))
		}
	})
	r := b.reconciler()
	b.reconcile(r) // at rest, too
	require.Equal(t, 100, b.heldOf("TimeActivity").Count)
	require.Zero(t, b.count(refs))
	empty.Store(false)
	b.delete(refs[7])
	_, err := b.store.ApproveDeletion(t.Context(), realm, "TimeActivity", "ann")
	require.NoError(t, err)
	b.clock.Advance(time.Hour)
	b.scheduled(r)
	require.Equal(t, 1, b.count(refs))
	require.True(t, b.gone(refs[7]))
}

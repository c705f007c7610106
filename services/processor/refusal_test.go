package processor_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// refuse has calls answered with a recorded response in place of QuickBooks, as long as
// refuses says so, and returns how many were.
func (b *bundle) refuse(recorded qbo.Recorded, refuses func(*http.Request) bool) (refused func() int) {
	var mu sync.Mutex
	n := 0
	respond := func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/v3/company/") || !refuses(r) {
			return false
		}
		mu.Lock()
		n++
		mu.Unlock()
		send(w, recorded)
		return true
	}
	b.respond.Store(&respond)
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}

// send asks for the next try in a second, which a test can wait for.
func send(w http.ResponseWriter, recorded qbo.Recorded) {
	w.Header().Set("Content-Type", recorded.ContentType)
	w.Header().Set("Retry-After", "1")
	w.WriteHeader(recorded.Status)
	_, _ = w.Write([]byte(recorded.Body))
}

// cure ends all refusals.
func (b *bundle) cure() { b.respond.Store(nil) }

func everything(*http.Request) bool { return true }

// of reports whether a request asks for the entity, or for several with it.
func of(name string) func(*http.Request) bool {
	return func(r *http.Request) bool {
		q := r.URL.Query()
		return strings.Contains(q.Get("query")+" ", " FROM "+name+" ") || strings.Contains(q.Get("entities"), name) ||
			strings.Contains(r.URL.Path, "/"+strings.ToLower(name)+"/")
	}
}

// record reports whether a request asks for the record.
func record(ref qbosim.Ref) func(*http.Request) bool {
	return func(r *http.Request) bool {
		return strings.Contains(r.URL.Query().Get("query"), "'"+ref.ID+"'") || strings.HasSuffix(r.URL.Path, "/"+strings.ToLower(ref.Entity)+"/"+ref.ID)
	}
}

func recorded(t testing.TB, name string) qbo.Recorded {
	t.Helper()
	for _, row := range qbo.Responses() {
		if row.Name == name {
			return row.Recorded
		}
	}
	t.Fatalf("no response is called %q", name)
	return qbo.Recorded{}
}

// blip is a response that a realm gets for a second, from its first call on.
type blip struct {
	row     qbo.Response
	records []qbosim.Ref

	mu      sync.Mutex // guards the rest
	began   time.Time
	refused int
}

func (b *blip) refuses() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.began.IsZero() {
		b.began = time.Now()
	}
	if time.Since(b.began) > time.Second {
		return false
	}
	b.refused++
	return true
}

// A gateway answers almost anything for a moment. Whatever it is, nothing is given up for
// it, and it does not multiply the calls.
func TestRefusal_OfAMomentMakesNoDeadLetter(t *testing.T) {
	t.Parallel()
	b := setup(t)
	blips := map[string]*blip{}
	for i, row := range qbo.Responses() {
		switch {
		case row.From != "", row.Meaning == qbo.MeaningOK:
			continue
		case row.Meaning == qbo.MeaningThrottled, row.Meaning == qbo.MeaningNotFound:
			continue // the limiter's and a read that lags: see there
		case row.Recorded.Status == http.StatusUnauthorized && row.Meaning != qbo.MeaningCompanyAccess:
			continue // calls are held back for a minute: see TestRefusal_OfAGoodTokenWaitsAside
		}
		r := fmt.Sprintf("91303477%08d", i)
		b.connect(r)
		blips[r] = &blip{row: row}
		for n := range 25 {
			name := "Invoice"
			if n%5 == 0 {
				name = "Customer"
			}
			ref, err := b.sim.Create(r, name, nil)
			require.NoError(t, err)
			blips[r].records = append(blips[r].records, ref)
		}
	}
	respond := func(w http.ResponseWriter, r *http.Request) bool {
		parts := strings.Split(r.URL.Path, "/")
		if len(parts) < 4 || blips[parts[3]] == nil || !blips[parts[3]].refuses() {
			return false
		}
		recorded := blips[parts[3]].row.Recorded
		w.Header().Set("Content-Type", recorded.ContentType)
		w.WriteHeader(recorded.Status)
		_, _ = w.Write([]byte(recorded.Body))
		return true
	}
	b.respond.Store(&respond)
	b.publish(b.webhooks()...)
	b.accessDelay = 20 * time.Millisecond
	p := b.start()
	began := time.Now()
	require.Eventually(t, func() bool {
		if time.Since(began) > 2*time.Second { // the blips are over
			b.clock.Advance(20 * time.Second) // when what looks like a problem of the app is asked again
		}
		idle, err := p.Idle(t.Context())
		return err == nil && idle
	}, patient, 50*time.Millisecond)
	for _, blip := range blips {
		for _, ref := range blip.records {
			require.NotNil(t, b.a.all()[ref], blip.row.Name)
		}
		most := 12
		if blip.row.Meaning == qbo.MeaningPoison || strings.HasSuffix(blip.row.Name, "too long") {
			most = 2 * 66 // it names a record or the size as the cause: the batch is divided
		}
		if blip.row.Meaning == qbo.MeaningCompanyAccess {
			most += 6 // it is found out whether it is the company
		}
		require.LessOrEqual(t, blip.refused, most, blip.row.Name)
		require.Positive(t, blip.refused, blip.row.Name)
	}
	b.requireEqual()
	require.Empty(t, b.dead())
}

// What a scan has published carries its version. It must not count as settled because of
// a moment in which it could not be read: no later scan would look at it again.
func TestRefusal_OfAMomentAfterAScanSettlesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	bill := b.create("Bill", nil)
	b.webhooks() // lost
	version := latest(t, b, bill).Version
	refused := b.refuse(recorded(t, "unknown refusal"), everything)
	p := b.start()
	b.publish(b.event(fromCDC, &ledgerfeedv1.Event{Entity: "Bill", EntityId: bill.ID, Operation: updated, Version: version}))
	require.Eventually(t, func() bool { return refused() >= 2 }, patient, time.Millisecond)
	gone, err := b.store.Dead(t.Context(), realm, "a", []state.Ref{{Entity: "Bill", ID: bill.ID}})
	require.NoError(t, err)
	require.Zero(t, gone[0].Version)
	b.cure()
	b.settle(p)
	b.requireEqual()
	require.Empty(t, b.dead())
}

// A refusal that no code explains becomes a dead letter when it has lasted, and costs the
// others nothing.
func TestRefusal_OfOneRecordDiesAloneAndLate(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"unknown refusal", "gateway"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			refs := make([]qbosim.Ref, 30)
			for i := range refs {
				refs[i] = b.create("Invoice", nil)
			}
			bad := refs[11]
			b.refuse(recorded(t, name), record(bad))
			b.publish(b.webhooks()...)
			b.refusals, b.late = 6, true
			p := b.start()
			require.Eventually(t, func() bool { return b.a.count() == len(refs)-1 }, patient, time.Millisecond, "the others go on")
			tries := func() int { return int(b.metric("ledgerfeed_processor_messages_put_off_total")) }
			before := tries()
			require.Eventually(t, func() bool { return tries() >= before+3 }, patient, time.Millisecond)
			require.Empty(t, b.dead(), "the hour is not over")
			p.stop()

			b.late = false
			b.settle(b.start())
			dead := b.dead()
			require.Equal(t, []stream.Reason{stream.ReasonRefused}, reasons(dead))
			require.Equal(t, bad.ID, dead[0].Envelope.GetEvents()[0].GetEntityId())
		})
	}
}

// A restart neither shortens the hour nor starts it over, nor the number of responses: the
// third replica goes on with what the first two have seen.
func TestRefusal_TheHourOutlivesARestart(t *testing.T) {
	t.Parallel()
	b := setup(t)
	bad := b.create("Invoice", nil)
	b.refuse(recorded(t, "unknown refusal"), record(bad))
	b.publish(b.webhooks()...)
	b.refusals, b.late = 5, true
	refused := func(n int) {
		t.Helper()
		require.Eventually(t, func() bool {
			all, err := b.store.RecordRefusals(t.Context(), realm, []state.Ref{{Entity: bad.Entity, ID: bad.ID}})
			return err == nil && all[0].Times >= n
		}, patient, time.Millisecond)
	}
	p := b.start()
	refused(2)
	p.stop()
	b.clock.Advance(40 * time.Minute)
	p = b.start()
	refused(4)
	p.stop()
	require.Empty(t, b.dead(), "40 minutes are no hour")
	b.clock.Advance(25 * time.Minute)
	p = b.start()
	b.settle(p)
	require.Equal(t, []stream.Reason{stream.ReasonRefused}, reasons(b.dead()))
	all, err := b.store.RecordRefusals(t.Context(), realm, []state.Ref{{Entity: bad.Entity, ID: bad.ID}})
	require.NoError(t, err)
	require.Zero(t, all[0].Times, "requeued, it is retried for as long again")
}

// A record that was read in between is refused for the first time again.
func TestRefusal_AReadEndsTheHour(t *testing.T) {
	t.Parallel()
	b := setup(t)
	bad := b.create("Invoice", nil)
	b.refuse(recorded(t, "unknown refusal"), record(bad))
	b.publish(b.webhooks()...)
	b.refusals, b.late = 5, true
	kept := func() int {
		all, err := b.store.RecordRefusals(t.Context(), realm, []state.Ref{{Entity: bad.Entity, ID: bad.ID}})
		require.NoError(t, err)
		return all[0].Times
	}
	p := b.start()
	require.Eventually(t, func() bool { return kept() >= 2 }, patient, time.Millisecond)
	p.stop()
	b.cure()
	b.settle(b.start()) // it remembers nothing, and reads it
	b.requireEqual()
	require.Zero(t, kept())
}

// One entity is refused and the others answer: its events become dead letters, when that
// has lasted. A scan may try them again.
func TestRefusal_OfOneEntityHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"feature not in the edition", "app not authorized for the company", "gateway", "subscription ended, status 200"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			class, bill := b.create("Class", nil), b.create("Bill", nil)
			refused := b.refuse(recorded(t, name), of("Class"))
			b.webhooks() // lost
			b.refusals = 5
			p := b.start()
			for _, ref := range []qbosim.Ref{class, bill} {
				b.publish(b.event(fromCDC, &ledgerfeedv1.Event{Entity: ref.Entity, EntityId: ref.ID, Operation: updated, Version: latest(t, b, ref).Version}))
			}
			b.settle(p)
			b.a.last(t, bill)
			require.Equal(t, []stream.Reason{stream.ReasonRefused}, reasons(b.dead()))
			require.LessOrEqual(t, refused(), 12)
			gone, err := b.store.Dead(t.Context(), realm, "a", []state.Ref{{Entity: "Class", ID: class.ID}})
			require.NoError(t, err)
			require.Zero(t, gone[0].Version, "a scan tries it again")
		})
	}
}

// A company or an app that may read nothing waits: no dead letter helps there. Nor do many
// calls, but for a gateway whose trouble may be over at any moment.
func TestRefusal_OfEverythingWaits(t *testing.T) {
	t.Parallel()
	for name, calls := range map[string]int{
		"person lost the right": 1, "app not authorized for the company": 1, "subscription ended": 1, "gateway": 10,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			var bills []qbosim.Ref
			for range 5 {
				bills = append(bills, b.create("Bill", nil))
			}
			refused := b.refuse(recorded(t, name), everything)
			b.publish(b.webhooks()...)
			b.refusals, b.accessDelay = 3, 20*time.Millisecond
			p := b.start()
			require.Eventually(t, func() bool { return refused() >= calls }, patient, time.Millisecond)
			require.Empty(t, b.dead())
			b.cure()
			require.Eventually(t, func() bool {
				b.clock.Advance(time.Minute) // when it is asked again
				return !slices.ContainsFunc(bills, func(bill qbosim.Ref) bool { return len(b.a.of(bill)) == 0 })
			}, patient, 50*time.Millisecond)
			b.settle(p)
			b.requireEqual()
			require.Empty(t, b.dead())
		})
	}
}

// A good token that is refused is replaced once; then its realm's events wait aside.
func TestRefusal_OfAGoodTokenWaitsAside(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.create("Bill", nil)
	refused := b.refuse(recorded(t, "authentication failure of a good token"), everything)
	b.publish(b.webhooks()...)
	b.start()
	b.requireAside()
	require.LessOrEqual(t, refused(), 4)
	require.Empty(t, b.dead())
}

// Wrong keys of the app are no matter of our Redis: the events wait aside, where they
// hold up nobody, and become no dead letters.
func TestRefusal_OfTheAppWaitsAside(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.create("Bill", nil)
	respond := func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/oauth2/") {
			return false
		}
		send(w, recorded(t, "client unknown"))
		return true
	}
	b.respond.Store(&respond)
	b.clock.Advance(2 * time.Hour) // the access token is used up
	b.waitAfter = 2
	b.publish(b.webhooks()...)
	p := b.start()
	b.requireAside()
	require.Empty(t, b.dead())
	b.cure()
	require.Eventually(t, func() bool {
		b.clock.Advance(time.Minute) // when the app is tried again; a try may be under way, and the next is 20 s away
		idle, err := p.Idle(t.Context())
		return err == nil && idle
	}, 2*patient, 50*time.Millisecond)
	b.settle(p)
	b.requireEqual()
}

// A refusal of many records of an entity that can be counted must not cost a call for
// each half of them, each time.
func TestRefusal_BoundsItsCalls(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const records = 200
	for range records {
		b.create("Bill", nil)
	}
	var counts int
	var mu sync.Mutex
	refused := b.refuse(recorded(t, "unknown refusal"), func(r *http.Request) bool {
		if strings.Contains(r.URL.Query().Get("query"), "COUNT") {
			mu.Lock()
			defer mu.Unlock()
			counts++
			return false
		}
		return true
	})
	b.publish(b.webhooks()...)
	p := b.start()
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return counts == 1
	}, patient, time.Millisecond)
	require.LessOrEqual(t, refused(), 10, "until then, once for each try")
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return counts >= 3
	}, patient, time.Millisecond)
	require.LessOrEqual(t, refused(), 10+4*(2+2*12))
	b.cure()
	b.settle(p)
	b.requireEqual()
	require.Empty(t, b.dead())
}

// requireAside waits until one message waits aside.
func (b *bundle) requireAside() {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		lag, err := b.conn.Lag(b.t.Context(), stream.Waiting, "processor_waiting")
		return err == nil && lag.Stored == 1
	}, patient, 5*time.Millisecond)
}

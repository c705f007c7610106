package processor_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// rewrite lets a test change what the API answers.
func (b *bundle) rewrite(change func([]byte) []byte) {
	b.t.Helper()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		b.sim.Handler().ServeHTTP(answer, r)
		for name, values := range answer.Header() {
			if name != "Content-Length" {
				w.Header()[name] = values
			}
		}
		w.WriteHeader(answer.Code)
		_, _ = w.Write(change(answer.Body.Bytes()))
	}))
	b.t.Cleanup(proxy.Close)
	client, err := qbo.New(qbo.Options{BaseURL: proxy.URL, Tokens: b.connections, Limiter: b.store.Limiter(unlimited)})
	require.NoError(b.t, err)
	b.client = client
}

// field is a number of the document that a sink was given last.
func (m *memory) field(t testing.TB, ref qbosim.Ref, name string) string {
	t.Helper()
	all := m.of(ref)
	require.NotEmpty(t, all)
	var doc map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(all[len(all)-1].GetDocument(), &doc))
	return string(doc[name])
}

// A program posts two payments of one customer within a second. The customer's Balance
// follows: QuickBooks moves LastUpdatedTime and leaves SyncToken, so that two states bear
// one version.
func TestContent_TheSecondOfTwoBalancesWithinASecondIsDelivered(t *testing.T) {
	t.Parallel()
	for entity, field := range map[string]string{"Customer": "Balance", "Vendor": "Balance", "Item": "QtyOnHand"} {
		t.Run(entity, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			var balance atomic.Int64
			number := regexp.MustCompile(`"` + field + `":\s*[0-9.]+`)
			b.rewrite(func(body []byte) []byte {
				return number.ReplaceAll(body, fmt.Appendf(nil, `%q:%d`, field, balance.Load()))
			})
			p := b.start()
			balance.Store(300)
			ref := b.create(entity, map[string]any{field: 300})
			b.webhooks() // lost
			tell := func() {
				b.publish(b.event(fromWebhook, &ledgerfeedv1.Event{
					Id: fmt.Sprint(balance.Load()), Entity: entity, EntityId: ref.ID, Operation: updated, OccurredAt: timestamppb.New(b.clock.Now()),
				}))
				b.settle(p)
			}
			balance.Store(200)
			tell()
			b.clock.Advance(300 * time.Millisecond)
			balance.Store(100) // in the same second
			tell()
			b.clock.Advance(time.Hour)
			truth := latest(t, b, ref)
			b.publish(b.event(fromCDC, &ledgerfeedv1.Event{
				Entity: entity, EntityId: ref.ID, Operation: updated, Version: truth.Version, OccurredAt: timestamppb.New(truth.LastUpdated),
			}))
			b.settle(p)
			for _, s := range []*memory{b.a, b.b} {
				require.Equal(t, "100", s.field(t, ref, field), s.name)
				require.Len(t, s.of(ref), 2, "each document once")
			}
		})
	}
}

// QuickBooks tells by webhook that an invoice changed (it was paid), and the document
// says so, but LastUpdatedTime and SyncToken are those of before.
func TestContent_ADocumentThatChangedUnderTheSameVersionIsDelivered(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var paid atomic.Bool
	balance := regexp.MustCompile(`"Balance":\s*[0-9.]+`)
	b.rewrite(func(body []byte) []byte {
		if paid.Load() {
			return balance.ReplaceAll(body, []byte(`"Balance":0`))
		}
		return body
	})
	p := b.start()
	invoice := b.create("Invoice", map[string]any{"Balance": 123.45})
	b.deliver(p)
	require.Equal(t, "123.45", b.a.field(t, invoice, "Balance"))
	b.clock.Advance(time.Hour)
	paid.Store(true)
	b.publish(b.event(fromWebhook, &ledgerfeedv1.Event{Entity: "Invoice", EntityId: invoice.ID, Operation: updated, OccurredAt: timestamppb.New(b.clock.Now())}))
	b.settle(p)
	require.Equal(t, "0", b.a.field(t, invoice, "Balance"))
	require.Equal(t, "0", b.b.field(t, invoice, "Balance"))
}

// A scan saw another document at the version that was delivered.
func TestContent_AScanOfAnotherDocumentIsRead(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start()
	vendor := b.create("Vendor", nil)
	b.deliver(p)
	truth := latest(t, b, vendor)
	scan := func(hash string) {
		b.publish(b.event(fromCDC, &ledgerfeedv1.Event{
			Entity: "Vendor", EntityId: vendor.ID, Operation: updated, Version: truth.Version, ContentHash: hash, OccurredAt: timestamppb.New(truth.LastUpdated),
		}))
		b.settle(p)
	}
	calls, written := b.calls(), b.a.count()
	scan(qbo.ContentHash(truth.Raw))
	require.Equal(t, calls, b.calls())
	scan("another")
	require.Equal(t, calls+1, b.calls())
	require.Equal(t, written, b.a.count(), "it was read, and is what the sink has")
}

// Two writes by two of Intuit's nodes whose clocks differ by a second: SyncToken grows,
// LastUpdatedTime does not.
func TestContent_AHigherSyncTokenAtAnEarlierTimeIsDelivered(t *testing.T) {
	t.Parallel()
	for _, entity := range []string{"Bill", "Customer"} {
		t.Run(entity, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			var back atomic.Bool
			updatedAt := regexp.MustCompile(`"LastUpdatedTime":\s*"[^"]*"`)
			earlier := qbo.FormatTime(b.clock.Now().Add(-time.Second))
			b.rewrite(func(body []byte) []byte {
				if back.Load() {
					return updatedAt.ReplaceAll(body, fmt.Appendf(nil, `"LastUpdatedTime":%q`, earlier))
				}
				return body
			})
			p := b.start()
			ref := b.create(entity, nil)
			b.deliver(p)
			before := b.a.last(t, ref).GetVersion()
			b.clock.Advance(time.Minute)
			require.NoError(t, b.sim.Update(ref, nil))
			back.Store(true)
			b.deliver(p)
			last := b.a.last(t, ref)
			require.Equal(t, "1", last.GetSyncToken())
			require.Greater(t, last.GetVersion(), before, "a sink that compares versions takes it")
		})
	}
}

// A TimeActivity whose webhook comes long before reads show it: nothing calls it deleted.
func TestContent_ATimeActivityThatIsVisibleLateIsDelivered(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start()
	b.clock.Advance(time.Hour)
	ref := b.create("TimeActivity", nil)
	b.sim.SetFaults(qbosim.Faults{ReadLag: 50 * time.Second})
	b.deliver(p)
	b.sim.SetFaults(qbosim.Faults{})
	require.Empty(t, b.a.of(ref))
	b.clock.Advance(time.Hour)
	require.NoError(t, b.sim.Update(ref, nil))
	b.deliver(p)
	require.Empty(t, b.dead())
	b.requireEqual()
}

// A vendor is made and, a second later, made inactive; reads are late by five seconds.
// Made active again, and changed, it is delivered.
func TestContent_ANewVendorThatIsMadeInactiveAtOnceIsNotGoneForGood(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start()
	b.clock.Advance(time.Hour)
	b.sim.SetFaults(qbosim.Faults{ReadLag: 5 * time.Second})
	vendor := b.create("Vendor", nil)
	b.clock.Advance(time.Second)
	require.NoError(t, b.sim.Deactivate(vendor))
	b.deliver(p)
	b.clock.Advance(10 * time.Second)
	b.sim.SetFaults(qbosim.Faults{})
	follow, err := b.store.FollowUps(t.Context(), realm)
	require.NoError(t, err)
	require.Len(t, follow, 1, "the next scan asks whether it is gone")

	b.clock.Advance(time.Hour)
	require.NoError(t, b.sim.Update(vendor, map[string]any{"Active": true}))
	b.deliver(p)
	require.Empty(t, b.dead())
	b.requireEqual()
}

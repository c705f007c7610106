package processor_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// refuser is an Intuit that refuses every call about a realm, and counts those.
type refuser struct {
	b      *bundle
	status atomic.Int64 // 0: it does not
	body   string
	calls  atomic.Int64
}

const subscriptionEnded = `{"Fault":{"Error":[{"Message":"Invalid Company Status","Detail":"Subscription period has ended or cancelled or there was a billing problem","code":"6190"}],"type":"ValidationFault"}}`

func refusing(b *bundle) *refuser {
	f := &refuser{b: b, body: subscriptionEnded}
	f.status.Store(400)
	quickbooks := b.sim.Handler()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status := int(f.status.Load()); status != 0 && strings.Contains(r.URL.Path, "/company/"+realm+"/") {
			f.calls.Add(1)
			w.WriteHeader(status)
			fmt.Fprint(w, f.body)
			return
		}
		quickbooks.ServeHTTP(w, r)
	}))
	b.t.Cleanup(server.Close)
	client, err := qbo.New(qbo.Options{BaseURL: server.URL, Tokens: b.connections, Limiter: b.store.Limiter(unlimited)})
	require.NoError(b.t, err)
	b.client = client
	return f
}

func (b *bundle) connected() connection.Connection {
	b.t.Helper()
	c, err := b.connections.Get(b.t.Context(), realm)
	require.NoError(b.t, err)
	return c
}

func (b *bundle) startWaiting() running {
	b.t.Helper()
	b.accessDelay = 20 * time.Millisecond
	return b.start()
}

// The events of a company that Intuit refuses wait, and are delivered when it answers.
func TestProcessor_EventsOfARefusedCompanyWait(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.connect(other)
	f := refusing(b)
	p := b.startWaiting()
	var envs []*ledgerfeedv1.Envelope
	for range 25 {
		b.create("Bill", nil)
		envs = append(envs, b.webhooks()...)
	}
	b.publish(envs...)
	require.Eventually(t, func() bool {
		b.clock.Advance(10 * time.Second)
		return b.connected().State == connection.SubscriptionEnded
	}, patient, 20*time.Millisecond, "the company is refused")
	require.Contains(t, b.connected().Reason, "Invalid Company Status")
	// Another company goes on.
	bill, err := b.sim.Create(other, "Bill", nil)
	require.NoError(t, err)
	b.publish(b.webhooks()...)
	require.Eventually(t, func() bool { return b.a.all()[bill] != nil }, patient, 5*time.Millisecond)

	before := f.calls.Load()
	for range 5 {
		calls := f.calls.Load()
		b.clock.Advance(time.Hour + time.Minute)
		require.Eventually(t, func() bool {
			// The next hour begins when the answer is noted, not when the call came.
			next := b.connected().Access.Next
			return f.calls.Load() > calls && next.After(b.clock.Now().Add(30*time.Minute))
		}, patient, 5*time.Millisecond, "asked again after an hour")
	}
	require.EqualValues(t, 5, f.calls.Load()-before, "once an hour, whatever waits")
	require.Len(t, b.a.all(), 1)
	require.Empty(t, b.dead())

	f.status.Store(0)
	b.clock.Advance(2 * time.Hour)
	b.settle(p)
	require.Equal(t, connection.Live, b.connected().State)
	b.requireEqual()
	b.a.requireOnce(t)
	require.Empty(t, b.dead())
}

// After a day they are left to the scan that follows.
func TestProcessor_EventsOfACompanyThatIsRefusedForLongAreLeftToTheScan(t *testing.T) {
	t.Parallel()
	b := setup(t)
	f := refusing(b)
	p := b.startWaiting()
	b.create("Bill", nil)
	b.publish(b.webhooks()...)
	require.Eventually(t, func() bool {
		b.clock.Advance(10 * time.Second)
		return b.connected().State == connection.SubscriptionEnded
	}, patient, 20*time.Millisecond)
	b.clock.Advance(25 * time.Hour)
	b.create("Bill", nil)
	b.publish(b.webhooks()...)
	b.settle(p)
	require.Zero(t, b.a.count())
	require.Empty(t, b.dead())
	require.EqualValues(t, 2, p.Stats().Parked)
	require.NotZero(t, f.calls.Load())
	cursors, err := b.store.Cursors(t.Context(), realm)
	require.NoError(t, err)
	require.Empty(t, cursors, "no cursor has passed them")
}

// A person who unparks it has them delivered at once.
func TestProcessor_EventsOfARefusedCompanyAreDeliveredOnceItIsUnparked(t *testing.T) {
	t.Parallel()
	b := setup(t)
	f := refusing(b)
	f.body = strings.Replace(subscriptionEnded, "6190", "120", 1)
	p := b.startWaiting()
	b.create("Bill", nil)
	b.publish(b.webhooks()...)
	require.Eventually(t, func() bool {
		b.clock.Advance(10 * time.Second)
		return b.connected().State == connection.NoAccess
	}, patient, 20*time.Millisecond)
	f.status.Store(0)
	require.NoError(t, b.connections.SetState(t.Context(), realm, connection.Live, ""))
	b.settle(p)
	b.requireEqual()
	require.Empty(t, b.dead())
}

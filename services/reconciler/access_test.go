package reconciler_test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/reconciler"
)

const subscriptionEnded = `{"Fault":{"Error":[{"Message":"Invalid Company Status","Detail":"Subscription period has ended or cancelled or there was a billing problem","code":"6190"}],"type":"ValidationFault"}}`

// refusing has QuickBooks refuse every call while on is set, and counts them.
func (b *bundle) refusing() (on *atomic.Bool, calls *atomic.Int64) {
	on, calls = &atomic.Bool{}, &atomic.Int64{}
	b.between(func(w http.ResponseWriter, r *http.Request, quickbooks http.Handler) {
		if !on.Load() {
			quickbooks.ServeHTTP(w, r)
			return
		}
		calls.Add(1)
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, subscriptionEnded)
	})
	return on, calls
}

// A scan is asked for every minute of a day, which no schedule would.
func TestAccess_ARefusedCompanyCostsOneCallAnHour(t *testing.T) {
	t.Parallel()
	b, _ := loaded(t, 10)
	on, calls := b.refusing()
	r := b.reconciler()
	on.Store(true)
	before := b.cursors()
	for range 24 * 60 {
		report := b.request(r, reconciler.Request{})
		require.Len(t, append(report.Parked, keysOf(report.Errors)...), 1)
		b.clock.Advance(time.Minute)
	}
	require.LessOrEqual(t, calls.Load(), int64(24+10), "one an hour, and ten to find out")
	c, err := b.connections.Get(t.Context(), realm)
	require.NoError(t, err)
	require.Equal(t, connection.SubscriptionEnded, c.State)
	require.Equal(t, before, b.cursors())

	on.Store(false)
	missed := b.create("Invoice")
	b.clock.Advance(2 * time.Hour)
	require.Eventually(t, func() bool {
		b.request(r, reconciler.Request{})
		return b.has("Invoice", missed.ID)
	}, patient, time.Millisecond, "it goes on by itself")
	b.requireEqual()
}

// What a person has parked is said with that person's reason.
func TestAccess_AParkedRealmSaysWhy(t *testing.T) {
	t.Parallel()
	b, _ := loaded(t, 5)
	core, logs := observer.New(zapcore.WarnLevel)
	b.log = zap.New(core)
	require.NoError(t, b.connections.SetState(t.Context(), realm, connection.Parked, "invoice unpaid"))
	defer run(t, b.reconciler())()
	b.ask(state.Job{})
	j := b.over()
	require.Equal(t, state.JobFailed, j.State)
	require.Contains(t, j.Error, "parked")
	require.Contains(t, j.Error, "invoice unpaid")
	require.NotContains(t, j.Error, "authorisation")
	lines := logs.FilterMessage("realm cannot be read; cursors are kept").All()
	require.Len(t, lines, 1)
	require.Contains(t, lines[0].ContextMap()["reason"], "invoice unpaid")
}

func keysOf(errs map[string]error) (ids []string) {
	for id := range errs {
		ids = append(ids, id)
	}
	return ids
}

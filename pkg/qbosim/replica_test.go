package qbosim_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
)

// lagged is a simulator whose invoice is updated every second for ten minutes.
func lagged(t *testing.T, seed uint64, faults qbosim.Faults) (*bundle, qbosim.Ref) {
	t.Helper()
	b := setup(t, func(o *qbosim.Options) {
		o.Seed, o.Faults, o.Limits = seed, faults, qbosim.Limits{PerMinute: 1 << 30}
	})
	ref := b.create("Invoice", map[string]any{"DocNumber": "0"})
	for n := 1; n <= 600; n++ {
		b.Advance(time.Second)
		require.NoError(t, b.Update(ref, map[string]any{"DocNumber": fmt.Sprint(n)}))
	}
	return b, ref
}

// behind is how many seconds an answer lags.
func (b *bundle) behind(o object) int {
	b.Helper()
	at, err := time.Parse(time.RFC3339, o.MetaData.LastUpdatedTime)
	require.NoError(b, err)
	return int(b.Now().Sub(at).Seconds())
}

func TestReplica_EachCallLagsByUpToTheMaximum(t *testing.T) {
	t.Parallel()
	run := func(seed uint64) []int {
		b, _ := lagged(t, seed, qbosim.Faults{ReplicaLag: 5 * time.Minute})
		var lags []int
		for range 400 {
			lags = append(lags, b.behind(b.query("SELECT * FROM Invoice")[0]))
		}
		return lags
	}
	first := run(1)
	distinct, fresh, far := map[int]bool{}, 0, 0
	for n, lag := range first {
		require.LessOrEqual(t, lag, 300)
		if distinct[lag] = true; lag == 0 {
			fresh++
		}
		if lag > 150 {
			far++
		}
		if n >= 16 { // lags change at every sixteenth call, and a call counts from 1
			few := map[int]bool{}
			for _, lag := range first[n/16*16-1 : min(n/16*16+15, len(first))] {
				few[lag] = true
			}
			require.LessOrEqual(t, len(few), 3, "three replicas")
		}
	}
	require.Greater(t, len(distinct), 20, "lags change")
	require.Greater(t, fresh, 40, "a replica is up to date now and then")
	require.Greater(t, far, 40)
	require.Equal(t, first, run(1), "the same seed lags alike")
	require.NotEqual(t, first, run(2))
}

func TestReplica_OneAnswerShowsOneMoment(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *qbosim.Options) {
		o.Faults.ReplicaLag, o.Limits = 5*time.Minute, qbosim.Limits{PerMinute: 1 << 30, BatchPerMinute: 1 << 30}
	})
	since := b.Now()
	invoice, bill := b.create("Invoice", nil), b.create("Bill", nil)
	for range 300 {
		b.Advance(time.Second)
		require.NoError(t, b.Update(invoice, nil))
		require.NoError(t, b.Update(bill, nil))
	}
	asked := since.Format(time.RFC3339)
	old := 0
	for range 100 {
		var got struct {
			BatchItemResponse []struct {
				QueryResponse struct{ Invoice, Bill []object }
				CDCResponse   []struct {
					QueryResponse []struct{ Invoice, Bill []object }
				}
			}
		}
		a := b.do(b.request(http.MethodPost, "/v3/company/"+realm+"/batch", `{"BatchItemRequest":[
			{"bId":"1","Query":"SELECT * FROM Invoice"},{"bId":"2","Query":"SELECT * FROM Bill"},
			{"bId":"3","CDCQuery":{"Entities":"Invoice,Bill","ChangedSince":"`+asked+`"}}]}`))
		require.NoError(t, json.Unmarshal(a.Body, &got), "%s", a.Body)
		tokens := map[string]bool{}
		for _, item := range got.BatchItemResponse {
			objects := append(item.QueryResponse.Invoice, item.QueryResponse.Bill...)
			for _, c := range item.CDCResponse {
				for _, block := range c.QueryResponse {
					objects = append(append(objects, block.Invoice...), block.Bill...)
				}
			}
			for _, o := range objects {
				if tokens[o.SyncToken] = true; o.SyncToken != "300" {
					old++
				}
			}
		}
		require.Len(t, tokens, 1, "%s", a.Body)
	}
	require.Positive(t, old)
}

// Truth does not lag, and ReadLag is exact whatever the replicas do.
func TestReplica_LagsBeyondReadLagAndTruthDoesNot(t *testing.T) {
	t.Parallel()
	b, ref := lagged(t, 1, qbosim.Faults{ReadLag: time.Minute})
	for range 50 {
		require.Equal(t, 60, b.behind(b.query("SELECT * FROM Invoice")[0]))
	}
	b.SetFaults(qbosim.Faults{ReadLag: time.Minute, ReplicaLag: time.Minute})
	exact, more := 0, 0
	for range 100 {
		lag := b.behind(b.query("SELECT * FROM Invoice")[0])
		require.GreaterOrEqual(t, lag, 60)
		require.LessOrEqual(t, lag, 120)
		if lag == 60 {
			exact++
		} else {
			more++
		}
	}
	require.Positive(t, exact)
	require.Positive(t, more)
	require.Equal(t, "600", b.Truth(realm)[ref].SyncToken)
	b.SetFaults(qbosim.Faults{})
	require.Zero(t, b.behind(b.query("SELECT * FROM Invoice")[0]))
}

func TestReplica_LagLeavesOtherDrawsAlone(t *testing.T) {
	t.Parallel()
	run := func(lag time.Duration) []int {
		b := setup(t, func(o *qbosim.Options) { o.Faults = qbosim.Faults{Error5xx: 0.3, ReplicaLag: lag} })
		var statuses []int
		for range 60 {
			statuses = append(statuses, b.get(cdcPath("Invoice", "2026-11-20")).Status)
		}
		return statuses
	}
	require.Empty(t, cmp.Diff(run(0), run(time.Minute)))
}

// Intuit's clock may be put back: calls from before do not count as of the last minute.
func TestLimits_ForgetWhatIsInTheFuture(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *qbosim.Options) { o.Limits.PerMinute = 2 })
	path := cdcPath("Invoice", "2026-11-20")
	require.Equal(t, 200, b.get(path).Status)
	require.Equal(t, 200, b.get(path).Status)
	require.Equal(t, 429, b.get(path).Status)
	b.Advance(-time.Hour)
	require.Equal(t, 200, b.get(path).Status)
}

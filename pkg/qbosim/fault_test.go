package qbosim_test

import (
	"encoding/json"
	"encoding/xml"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
)

func xmlFault(t require.TestingT, body []byte) oneFault {
	var got struct {
		XMLName xml.Name `xml:"http://schema.intuit.com/finance/v3 IntuitResponse"`
		Fault   struct {
			Error struct {
				Code            string `xml:"code,attr"`
				Message, Detail string
			}
		}
	}
	require.NoError(t, xml.Unmarshal(body, &got), "%s", body)
	e := got.Fault.Error
	return oneFault{e.Code, e.Message, e.Detail}
}

// shape names how a fault is written.
func (a answer) shape(t require.TestingT) string {
	if strings.Contains(a.Header.Get("Content-Type"), "xml") {
		return "xml"
	}
	if strings.Contains(a.Header.Get("Content-Type"), "html") {
		return "html"
	}
	var got map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(a.Body, &got))
	if _, ok := got["fault"]; ok {
		return "lower"
	}
	require.Contains(t, got, "Fault")
	return "upper"
}

func TestFault_ComesInEveryRecordedShape(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		faults qbosim.Faults
		path   string
		want   []string
	}{
		{"throttled", qbosim.Faults{Error429: 1}, cdcPath("Invoice", "2026-11-20"), []string{"upper", "lower", "xml"}},
		{"server error", qbosim.Faults{Error5xx: 1}, cdcPath("Invoice", "2026-11-20"), []string{"upper", "lower", "xml", "html"}},
		{"wrong statement", qbosim.Faults{}, "/v3/company/" + realm + "/query?query=x", []string{"upper", "lower", "xml"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, func(o *qbosim.Options) { o.Faults = tt.faults })
			seen := map[string]bool{}
			for range 100 {
				seen[b.get(tt.path).shape(t)] = true
			}
			for _, shape := range tt.want {
				require.True(t, seen[shape], "no fault in shape %s", shape)
			}
			require.Len(t, seen, len(tt.want))
		})
	}
}

func TestFault_InjectedErrorsHitTheirShareOfCalls(t *testing.T) {
	t.Parallel()
	run := func(seed uint64) []int {
		b := setup(t, func(o *qbosim.Options) {
			o.Seed = seed
			o.Faults = qbosim.Faults{Error429: 0.2, Error5xx: 0.2}
		})
		var statuses []int
		for range 100 {
			statuses = append(statuses, b.get(cdcPath("Invoice", "2026-11-20")).Status)
		}
		return statuses
	}
	first := run(7)
	throttled, failed, fine := 0, 0, 0
	for _, status := range first {
		switch {
		case status == 429:
			throttled++
		case status >= 500:
			failed++
		case status == 200:
			fine++
		}
	}
	require.Equal(t, 100, throttled+failed+fine)
	require.InDelta(t, 20, throttled, 12)
	require.InDelta(t, 16, failed, 12)
	require.Equal(t, first, run(7), "the same seed fails the same calls")
	require.NotEqual(t, first, run(8))
}

func TestFault_RetryAfterIsSentOnlyWhenConfigured(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *qbosim.Options) { o.Faults = qbosim.Faults{Error429: 1} })
	require.Empty(t, b.get(cdcPath("Invoice", "2026-11-20")).Header.Get("Retry-After"))
	b.SetFaults(qbosim.Faults{Error429: 1, RetryAfter: 1500 * time.Millisecond})
	a := b.get(cdcPath("Invoice", "2026-11-20"))
	require.Equal(t, "2", a.Header.Get("Retry-After"))
	require.Equal(t, oneFault{"3001", "message=ThrottleExceeded; errorCode=003001; statusCode=429", "The request limit was reached.  Try again later"}, a.fault(t))
	require.Equal(t, 2, b.Stats().Throttled)
}

func TestFault_HiddenRecordIsInNoQuery(t *testing.T) {
	t.Parallel()
	b := setup(t)
	hidden, shown := b.create("Invoice", nil), b.create("Invoice", nil)
	b.SetFaults(qbosim.Faults{Hidden: []qbosim.Ref{{Realm: realm, Entity: "invoice", ID: hidden.ID}}})
	all := string(b.get(queryPath("SELECT * FROM Invoice")).Body)
	require.Contains(t, all, `"maxResults":1`)
	require.Contains(t, all, `"Id":"`+shown.ID+`","Line"`)
	require.NotContains(t, string(b.get(queryPath("SELECT * FROM Invoice WHERE Id IN ('"+hidden.ID+"')")).Body), `"Invoice":[`)
	require.Contains(t, string(b.get(queryPath("SELECT COUNT(*) FROM Invoice")).Body), `"totalCount":1`)
	b.SetFaults(qbosim.Faults{})
	require.Contains(t, string(b.get(queryPath("SELECT COUNT(*) FROM Invoice")).Body), `"totalCount":2`)
}

func TestFault_PoisonRecordFailsWhateverIncludesIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	since := b.Now()
	bad, good := b.create("Invoice", nil), b.create("Invoice", nil)
	b.create("Bill", nil)
	b.SetFaults(qbosim.Faults{Poison: []qbosim.Ref{{Realm: realm, Entity: "invoice", ID: bad.ID}}})
	asked := since.Format(time.RFC3339)
	tests := []struct {
		name string
		path string
		want int
	}{
		{"cdc of its entity", cdcPath("Bill,Invoice", asked), 400},
		{"cdc of another", cdcPath("Bill", asked), 200},
		{"query of all", queryPath("SELECT * FROM Invoice"), 400},
		{"query that names it", queryPath("SELECT * FROM Invoice WHERE Id IN ('1','2')"), 400},
		{"query of another", queryPath("SELECT * FROM Invoice WHERE Id = '" + good.ID + "'"), 200},
		{"query of the page behind it", queryPath("SELECT * FROM Invoice STARTPOSITION 2"), 200},
		{"count", queryPath("SELECT COUNT(*) FROM Invoice"), 200},
		{"read", "/v3/company/" + realm + "/invoice/" + bad.ID, 400},
		{"read of another", "/v3/company/" + realm + "/invoice/" + good.ID, 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := b.get(tt.path)
			require.Equal(t, tt.want, a.Status, "%s", a.Body)
			if tt.want != 200 {
				require.Equal(t, "4002", a.fault(t).Code)
				require.Equal(t, "QueryProcessingError: To email address entered is invalid", a.fault(t).Detail)
			}
		})
	}
}

func TestFault_ReadLagShowsThePast(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *qbosim.Options) { o.Faults.ReadLag = time.Minute })
	since := b.Now()
	ref := b.create("Invoice", map[string]any{"PrivateNote": "first"})
	read := "/v3/company/" + realm + "/invoice/" + ref.ID

	require.Equal(t, "610", b.get(read).fault(t).Code, "not there yet")
	require.Empty(t, b.query("SELECT * FROM Invoice"))
	require.Empty(t, b.cdc("Invoice", since).of(t, "Invoice"))

	b.Advance(time.Minute)
	require.NoError(t, b.Update(ref, map[string]any{"PrivateNote": "second"}))
	require.Contains(t, string(b.get(read).Body), "first")
	require.Equal(t, "first", b.query("SELECT * FROM Invoice")[0].PrivateNote)
	require.Equal(t, "first", b.query("SELECT * FROM Invoice WHERE MetaData.LastUpdatedTime >= '2026-11-23'")[0].PrivateNote)
	require.Equal(t, "first", b.cdc("Invoice", since).of(t, "Invoice")[0].PrivateNote)

	b.Advance(time.Minute)
	require.Contains(t, string(b.get(read).Body), "second")
	require.Equal(t, "second", b.cdc("Invoice", since).of(t, "Invoice")[0].PrivateNote)
}

func TestFault_LatencyCountsAsConcurrent(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *qbosim.Options) { o.Faults.Latency = time.Hour })
	const calls = 12
	status := make(chan int, calls)
	req := b.request(http.MethodGet, cdcPath("Invoice", "2026-11-20"), "")
	for range calls {
		go func() {
			resp, err := b.server.Client().Do(req.Clone(req.Context()))
			if err != nil {
				status <- 0
				return
			}
			resp.Body.Close()
			status <- resp.StatusCode
		}()
	}
	answered := func() int {
		select {
		case s := <-status:
			return s
		case <-time.After(10 * time.Second):
			return -1
		}
	}
	// Ten wait; the two above the limit are refused at once.
	refused := []int{answered(), answered()}
	b.server.CloseClientConnections()
	require.Equal(t, []int{429, 429}, refused)
	st := b.Stats()
	require.Greater(t, st.MaxConcurrent, 10, "refused calls count in the maximum")
	require.Equal(t, 2, st.Throttled)
	for range calls - 2 {
		require.Zero(t, answered(), "cut off")
	}
}

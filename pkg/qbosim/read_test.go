package qbosim_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
)

// field is one field of a JSON answer.
func field(t *testing.T, a answer, name string) string {
	t.Helper()
	require.Equal(t, 200, a.Status, "%s", a.Body)
	var got map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(a.Body, &got))
	return string(got[name])
}

func TestRead_ShowsTheRecordOrSays610(t *testing.T) {
	t.Parallel()
	b := setup(t)
	invoice, gone, inactive := b.create("Invoice", nil), b.create("Invoice", nil), b.create("Item", nil)
	require.NoError(t, b.Delete(gone))
	require.NoError(t, b.Deactivate(inactive))
	company := "/v3/company/" + realm

	require.JSONEq(t, string(b.Truth(realm)[invoice].Raw), field(t, b.get(company+"/invoice/"+invoice.ID), "Invoice"))
	require.JSONEq(t, string(b.Truth(realm)[inactive].Raw), field(t, b.get(company+"/item/"+inactive.ID+"?minorversion=75"), "Item"))
	for _, path := range []string{"/invoice/" + gone.ID, "/invoice/99", "/bill/1"} {
		a := b.get(company + path)
		require.Equal(t, 400, a.Status)
		require.Equal(t, "610", a.fault(t).Code)
	}
	require.Equal(t, "500", b.get(company+"/fax/1").fault(t).Code)
	require.Equal(t, "500", b.get(company+"/Invoice/1").fault(t).Code, "entities are in lower case in the path")
}

func TestAPI_AsksForJSON(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for accept, want := range map[string]int{"application/json": 200, "*/*": 200, "text/html": 406, "": 406} {
		req := b.request(http.MethodGet, cdcPath("Bill", "2026-11-20"), "")
		req.Header.Set("Accept", accept)
		require.Equal(t, want, b.do(req).Status, accept)
	}
}

func TestAPI_NamesEachAnswer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first, second := b.get(cdcPath("Bill", "2026-11-20")), b.get(cdcPath("Bill", "x"))
	require.Len(t, first.Header.Get("Intuit_tid"), 36)
	require.Len(t, second.Header.Get("Intuit_tid"), 36)
	require.NotEqual(t, first.Header.Get("Intuit_tid"), second.Header.Get("Intuit_tid"))
}

func TestBatch_AnswersItemsOneByOne(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.create("Invoice", nil)
	batch := func(items ...string) answer {
		return b.do(b.request(http.MethodPost, "/v3/company/"+realm+"/batch", `{"BatchItemRequest":[`+strings.Join(items, ",")+`]}`))
	}
	a := batch(
		`{"bId":"a","Query":"SELECT * FROM Invoice"}`,
		`{"bId":"b","CDCQuery":{"Entities":"Invoice","ChangedSince":"2026-11-20"}}`,
		`{"bId":"c","Query":"SELECT * FROM invoice"}`,
		`{"bId":"d","operation":"delete","Invoice":{"Id":"1"}}`,
	)
	require.Equal(t, 200, a.Status, "%s", a.Body)
	var got struct {
		BatchItemResponse []struct {
			BID           string `json:"bId"`
			QueryResponse struct{ Invoice []object }
			CDCResponse   []struct {
				QueryResponse []struct{ Invoice []object }
			}
			Fault struct {
				Error []struct{ Code string }
			}
		}
		Time string
	}
	require.NoError(t, json.Unmarshal(a.Body, &got))
	require.NotEmpty(t, got.Time)
	items := got.BatchItemResponse
	require.Len(t, items, 4)
	require.Len(t, items[0].QueryResponse.Invoice, 1)
	require.Len(t, items[1].CDCResponse[0].QueryResponse[0].Invoice, 1)
	require.Equal(t, "4001", items[2].Fault.Error[0].Code)
	require.Equal(t, "500", items[3].Fault.Error[0].Code)

	many := make([]string, 31)
	for i := range many {
		many[i] = `{"bId":"x","Query":"SELECT COUNT(*) FROM Invoice"}`
	}
	require.Equal(t, 200, batch(many[:30]...).Status)
	require.Equal(t, 400, batch(many...).Status)
	require.Equal(t, 400, batch().Status)
}

func TestBatch_Is40AMinute(t *testing.T) {
	t.Parallel()
	b := setup(t)
	send := func() int {
		return b.do(b.request(http.MethodPost, "/v3/company/"+realm+"/batch", `{"BatchItemRequest":[{"bId":"1","Query":"SELECT COUNT(*) FROM Bill"}]}`)).Status
	}
	for range 40 {
		require.Equal(t, 200, send())
	}
	require.Equal(t, 429, send())
	require.Equal(t, 200, b.get(cdcPath("Bill", "2026-11-20")).Status, "other calls go on")
	b.Advance(60e9)
	require.Equal(t, 200, send())
	require.Equal(t, map[string]int{"batch": 42, "cdc": 1}, b.Stats().CallsByKind)
}

func TestLimits_500InAny60Seconds(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *qbosim.Options) { o.Limits = qbosim.Limits{PerMinute: 5} })
	get := func() int { return b.get(cdcPath("Bill", "2026-11-20")).Status }
	require.Equal(t, 200, get())
	b.Advance(59e9)
	for range 4 {
		require.Equal(t, 200, get())
	}
	require.Equal(t, 429, get())
	b.Advance(1e9)
	require.Equal(t, 200, get(), "the first one has left the window")
	require.Equal(t, 429, get())
	st := b.Stats()
	require.Equal(t, 8, st.Calls)
	require.Equal(t, map[string]int{realm: 8}, st.CallsByRealm)
	require.Equal(t, 2, st.Throttled)
	require.Equal(t, 7, st.MaxPerMinute, "refused calls count in the maximum")
	require.Equal(t, 1, st.MaxConcurrent)
}

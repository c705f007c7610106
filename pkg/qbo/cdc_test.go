package qbo_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
)

func decodeCDC(t testing.TB, body string) qbo.CDCResult {
	t.Helper()
	r, err := qbo.DecodeCDC([]byte(body))
	require.NoError(t, err)
	return r
}

func TestDecodeCDC_IntuitsSample(t *testing.T) {
	r := decodeCDC(t, string(read(t, "cdc/intuit_doc_sample_skeleton.json")))
	require.Empty(t, cmp.Diff(qbo.CDCResult{
		Time: utc(t, "2015-12-23T17:00:01Z"), Blocks: 2, Total: 5,
		Entities: map[string][]qbo.Entity{
			"Customer": {{Name: "Customer", ID: "63"}, {Name: "Customer", ID: "99"}},
			"Estimate": {
				{Name: "Estimate", ID: "34"}, {Name: "Estimate", ID: "123"},
				{Name: "Estimate", ID: "979", Deleted: true, LastUpdated: utc(t, "2015-12-23T20:55:50Z")},
			},
		},
	}, r, cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Raw" }, cmp.Ignore())))
	require.JSONEq(t, `{"domain":"QBO","status":"Deleted","Id":"979","MetaData":{"LastUpdatedTime":"2015-12-23T12:55:50-08:00"}}`,
		string(r.Entities["Estimate"][2].Raw))
	require.Equal(t, qbo.TombstoneVersion(utc(t, "2015-12-23T20:55:50Z")), r.Entities["Estimate"][2].Version())
	require.True(t, r.Complete([]string{"estimate", "customer"}))
	require.False(t, r.Truncated())
}

func TestDecodeCDC_IntegersAsIDsAndNoZone(t *testing.T) {
	r := decodeCDC(t, string(read(t, "cdc/python-quickbooks_two_entities.json")))
	require.Equal(t, utc(t, "2016-01-01T00:00:00Z"), r.Time)
	require.Equal(t, "1", r.Entities["Customer"][0].ID)
	require.Empty(t, r.Entities["Invoice"], "without an Id there is nothing to track")
	require.Len(t, r.NoID, 2)
	require.Contains(t, string(r.NoID[0].Raw), "12344")
	require.Equal(t, 3, r.Total)
	require.Equal(t, 2, r.Blocks)
}

func TestDecodeCDC_RawIsWhatIntuitSent(t *testing.T) {
	const raw = `{"Id" : "1", "Line":[ 1.10, 1e2 ], "SyncToken":"3","Note":"\u00e9","MetaData":{"LastUpdatedTime":"2026-01-02T03:04:05-08:00"}}`
	r := decodeCDC(t, `{"CDCResponse":[{"QueryResponse":[{"Invoice":[`+raw+`]}]}],"time":"2026-01-02T12:00:00.000Z"}`)
	e := r.Entities["Invoice"][0]
	require.Equal(t, raw, string(e.Raw))
	require.Equal(t, "3", e.SyncToken)
	require.Equal(t, utc(t, "2026-01-02T11:04:05Z"), e.LastUpdated)
	require.False(t, e.Deleted)
}

func TestDecodeCDC_OddForms(t *testing.T) {
	for _, tt := range []struct {
		name   string
		body   string
		ids    string // "Entity:id,id" joined by spaces
		blocks int
	}{
		{name: "names in any case", body: `{"cdcResponse":[{"queryResponse":[{"creditmemo":[{"id":"1"}]}]}],"Time":"2026-01-01T00:00:00Z"}`, ids: "CreditMemo:1", blocks: 1},
		{name: "unknown entity", body: `{"CDCResponse":[{"QueryResponse":[{"Spaceship":[{"Id":"1"}]}]}],"time":"2026-01-01T00:00:00Z"}`, ids: "Spaceship:1", blocks: 1},
		{name: "a lone object for a list", body: `{"CDCResponse":{"QueryResponse":{"Item":{"Id":"1"}}},"time":"2026-01-01T00:00:00Z"}`, ids: "Item:1", blocks: 1},
		{name: "no objects", body: `{"CDCResponse":[{"QueryResponse":[{"Item":[],"maxResults":0}]}],"time":"2026-01-01T00:00:00Z"}`, ids: "Item:", blocks: 1},
		{name: "null for a list", body: `{"CDCResponse":[{"QueryResponse":[{"Item":null}]}],"time":"2026-01-01T00:00:00Z"}`, ids: "Item:", blocks: 1},
		{name: "an entity in two blocks", body: `{"CDCResponse":[{"QueryResponse":[{"Item":[{"Id":"1"}]},{"Item":[{"Id":"2"}]}]}],"time":"2026-01-01T00:00:00Z"}`, ids: "Item:1,2", blocks: 1},
		{name: "in two responses", body: `{"CDCResponse":[{"QueryResponse":[{"Item":[{"Id":"1"}]}]},{"QueryResponse":[{}]}],"time":"2026-01-01T00:00:00Z"}`, ids: "Item:1", blocks: 2},
		{name: "warnings beside", body: `{"warnings":{"x":1},"CDCResponse":[{"QueryResponse":[{"Warnings":{"Warning":[]},"sparse":true}]}],"time":"2026-01-01T00:00:00Z"}`, blocks: 1},
		{name: "null fault", body: `{"fault":null,"CDCResponse":[{"Fault":null,"QueryResponse":[{"Fault":null}]}],"time":"2026-01-01T00:00:00Z"}`, blocks: 1},
		{name: "byte order mark", body: "\xef\xbb\xbf" + `{"CDCResponse":[{"QueryResponse":[{}]}],"time":"2026-01-01T00:00:00Z"}`, blocks: 1},
		{name: "epoch milliseconds", body: `{"CDCResponse":[{"QueryResponse":[{}]}],"time":1767225600000}`, blocks: 1},
		{name: "no blocks", body: `{"CDCResponse":[],"time":"2026-01-01T00:00:00Z"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := decodeCDC(t, tt.body)
			got := []string{}
			for name, list := range r.Entities {
				ids := []string{}
				for _, e := range list {
					ids = append(ids, e.ID)
					require.Equal(t, name, e.Name)
				}
				got = append(got, name+":"+strings.Join(ids, ","))
			}
			require.Equal(t, tt.ids, strings.Join(got, " "))
			require.Equal(t, tt.blocks, r.Blocks)
			require.Equal(t, utc(t, "2026-01-01T00:00:00Z"), r.Time)
		})
	}
}

func TestDecodeCDC_OddFieldsOfAnObjectAreMissing(t *testing.T) {
	for _, object := range []string{
		`{"Id":"1","SyncToken":{},"status":7,"MetaData":"x"}`,
		`{"Id":"1","SyncToken":null,"status":null,"MetaData":{"LastUpdatedTime":"soon"}}`,
		`{"Id":"1","MetaData":[]}`,
	} {
		e := decodeCDC(t, `{"CDCResponse":[{"QueryResponse":[{"Item":[`+object+`]}]}],"time":"2026-01-01T00:00:00Z"}`).Entities["Item"][0]
		require.Empty(t, cmp.Diff(qbo.Entity{Name: "Item", ID: "1", Raw: json.RawMessage(object)}, e, cmp.FilterPath(func(p cmp.Path) bool {
			return p.Last().String() == ".SyncToken"
		}, cmp.Ignore())))
		require.True(t, e.LastUpdated.IsZero())
	}
}

func TestDecodeCDC_DeletionWithoutATimeGetsTheAnswersTime(t *testing.T) {
	r := decodeCDC(t, `{"CDCResponse":[{"QueryResponse":[{"Bill":[{"Id":"1","status":"Deleted"}]}]}],"time":"2026-01-01T00:00:09Z"}`)
	require.Equal(t, qbo.TombstoneVersion(utc(t, "2026-01-01T00:00:09Z")), r.Entities["Bill"][0].Version())
}

func TestDecodeCDC_FaultsInAnAnswerOf200(t *testing.T) {
	const fault = `{"Error":[{"Message":"Error processing query","Detail":"QueryProcessingError: x","code":"4002"}],"type":"Service"}`
	for name, body := range map[string]string{
		"on top":      `{"Fault":` + fault + `,"time":"2019-03-06T01:17:20.232-08:00"}`,
		"lower case":  `{"fault":` + strings.ToLower(fault) + `,"cdcresponse":[],"time":1}`,
		"in response": `{"CDCResponse":[{"Fault":` + fault + `}],"time":"2026-01-01T00:00:00Z"}`,
		"in a block":  `{"CDCResponse":[{"QueryResponse":[{"Customer":[{"Id":"1"}]},{"Fault":` + fault + `}]}],"time":"2026-01-01T00:00:00Z"}`,
	} {
		t.Run(name, func(t *testing.T) {
			r, err := qbo.DecodeCDC([]byte(body))
			require.ErrorIs(t, err, qbo.ErrPoison)
			var f *qbo.Fault
			require.ErrorAs(t, err, &f)
			require.Equal(t, http.StatusOK, f.Status)
			require.Zero(t, r)
		})
	}
}

func TestDecodeCDC_Malformed(t *testing.T) {
	for name, body := range map[string]string{
		"empty":                 "",
		"HTML":                  "<html>",
		"cut short":             `{"CDCResponse":[{"QueryRes`,
		"an array":              `[]`,
		"no CDCResponse":        `{"time":"2026-01-01T00:00:00Z"}`,
		"another answer":        `{"QueryResponse":{},"time":"2026-01-01T00:00:00Z"}`,
		"a block is a number":   `{"CDCResponse":[{"QueryResponse":[7]}],"time":"2026-01-01T00:00:00Z"}`,
		"an object is a string": `{"CDCResponse":[{"QueryResponse":[{"Item":["x"]}]}],"time":"2026-01-01T00:00:00Z"}`,
		"a list has no name":    `{"CDCResponse":[{"QueryResponse":[{"":[{"Id":"1"}]}]}],"time":"2026-01-01T00:00:00Z"}`,
		"deep":                  `{"CDCResponse":` + strings.Repeat("[", 100_000),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := qbo.DecodeCDC([]byte(body))
			require.ErrorIs(t, err, qbo.ErrMalformed)
			require.True(t, qbo.Temporary(err))
		})
	}
}

func TestCDCResult_TruncatedAtTheCap(t *testing.T) {
	full := func(items, customers int) qbo.CDCResult {
		list := func(n int) string {
			return strings.TrimSuffix(strings.Repeat(`{"Id":"1"},`, n), ",")
		}
		return decodeCDC(t, fmt.Sprintf(`{"CDCResponse":[{"QueryResponse":[{"Item":[%s]},{"Customer":[%s]}]}],"time":"2026-01-01T00:00:00Z"}`, list(items), list(customers)))
	}
	require.False(t, full(999, 0).Truncated())
	require.True(t, full(1000, 0).Truncated(), "of one entity")
	require.True(t, full(500, 500).Truncated(), "in total")
	require.False(t, full(500, 499).Truncated())
}

func TestCDCResult_CompleteSpeaksOfEveryEntity(t *testing.T) {
	for _, tt := range []struct {
		name   string
		blocks string
		asked  []string
		time   string
		want   bool
	}{
		{name: "all named", blocks: `{"Item":[]},{"Bill":[]}`, asked: []string{"Bill", "Item"}, want: true},
		{name: "one empty block each", blocks: `{},{}`, asked: []string{"Bill", "Item"}, want: true},
		{name: "named and empty", blocks: `{},{"Bill":[{"Id":"1"}]},{}`, asked: []string{"Bill", "Item", "Vendor"}, want: true},
		{name: "asked in another case and twice", blocks: `{"Bill":[]},{}`, asked: []string{"bill", "Bill", "item", "ITEM"}, want: true},
		{name: "a lone empty block speaks for all", blocks: `{}`, asked: []string{"Bill", "Item"}, want: true},
		{name: "one is missing", blocks: `{"Bill":[]}`, asked: []string{"Bill", "Item"}},
		{name: "one is missing beside an empty one", blocks: `{"Bill":[]},{}`, asked: []string{"Bill", "Item", "Vendor"}},
		{name: "another one is there", blocks: `{"Vendor":[]}`, asked: []string{"Bill"}},
		{name: "a repeated one is not two", blocks: `{"Bill":[]},{"Bill":[]}`, asked: []string{"Bill", "Item"}},
		{name: "nothing at all", blocks: ``, asked: []string{"Bill"}},
		{name: "no time", blocks: `{"Bill":[]}`, asked: []string{"Bill"}, time: "none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			at := "2026-01-01T00:00:00Z"
			if tt.time != "" {
				at = tt.time
			}
			r := decodeCDC(t, `{"CDCResponse":[{"QueryResponse":[`+tt.blocks+`]}],"time":"`+at+`"}`)
			require.Equal(t, tt.want, r.Complete(tt.asked))
		})
	}
	r := decodeCDC(t, string(read(t, "cdc/intuit_doc_no_changes.json")))
	require.True(t, r.Complete([]string{"estimate", "customer"}), "Intuit's documented answer to a call for two")
}

func TestClient_CDCAsksAsDocumented(t *testing.T) {
	var got *http.Request
	b := setup(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		_, _ = w.Write(read(t, "cdc/intuit_doc_sample_skeleton.json"))
	})
	since := time.Date(2026, 1, 2, 3, 4, 5, 999, time.FixedZone("", -7*3600))
	r, err := b.client.CDC(t.Context(), "9130", []string{"Customer", "Estimate"}, since)
	require.NoError(t, err)
	require.Equal(t, 5, r.Total)
	require.Equal(t, http.MethodGet, got.Method)
	require.Equal(t, "/v3/company/9130/cdc", got.URL.Path)
	require.Equal(t, map[string][]string{
		"entities": {"Customer,Estimate"}, "changedSince": {"2026-01-02T10:04:05Z"}, "minorversion": {"75"}, "include": {"enhancedAllCustomFields"},
	}, map[string][]string(got.URL.Query()))
	require.NotContains(t, got.URL.RawQuery, ":")
	require.Equal(t, "Bearer access-1", got.Header.Get("Authorization"))
	require.Equal(t, "application/json", got.Header.Get("Accept"))
	require.Equal(t, []qbo.Call{{Realm: "9130", Kind: "cdc", Status: 200, Took: b.calls[0].Took}}, b.calls)

	_, err = b.client.CDC(t.Context(), "9130", []string{"estimate"}, since)
	require.NoError(t, err)
	require.Equal(t, "Estimate", b.calls[1].Entity)
}

func TestClient_CDCWithoutEntitiesOrTimeAsksNothing(t *testing.T) {
	b := setup(t, func(http.ResponseWriter, *http.Request) { t.Error("a call was made") })
	_, err := b.client.CDC(t.Context(), "1", nil, time.Now())
	require.Error(t, err)
	_, err = b.client.CDC(t.Context(), "1", []string{"Item"}, time.Time{})
	require.Error(t, err)
	for _, realm := range []string{"", ".", ".."} {
		_, err = b.client.CDC(t.Context(), realm, []string{"Item"}, time.Now())
		require.ErrorContains(t, err, "no usable realm")
	}
}

func TestClient_CDCTakesTheTimeOfTheHeaderIfTheBodyHasNone(t *testing.T) {
	b := setup(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", "Thu, 01 Jan 2026 00:00:07 GMT")
		_, _ = w.Write([]byte(`{"CDCResponse":[{"QueryResponse":[{}]}]}`))
	})
	r, err := b.client.CDC(t.Context(), "1", []string{"Item"}, time.Now())
	require.NoError(t, err)
	require.Equal(t, utc(t, "2026-01-01T00:00:07Z"), r.Time)
	require.True(t, r.Complete([]string{"Item"}))
}

package qbo_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
)

const (
	recurring = `{"Bill":{"Id":"42","SyncToken":"3","MetaData":{"LastUpdatedTime":"2026-01-01T00:00:00-08:00"},"TotalAmt":7,"RecurringInfo":{"Name":"Rent"}}}`
	rate      = `{"SyncToken":"0","AsOfDate":"2026-11-30","SourceCurrencyCode":"EUR","TargetCurrencyCode":"USD","Rate":1.09,"MetaData":{"LastUpdatedTime":"2026-11-30T01:00:00-08:00"}}`
)

func TestKey_OfRecordsWithoutAnIdOfTheirOwn(t *testing.T) {
	for _, tt := range []struct{ name, body, entity, id string }{
		{"wrapped", `{"QueryResponse":{"RecurringTransaction":[` + recurring + `]}}`, "RecurringTransaction", "42"},
		{"a rate", `{"QueryResponse":{"ExchangeRate":[` + rate + `]}}`, "ExchangeRate", "EUR-2026-11-30"},
		{"another name", `{"QueryResponse":{"CreditCardPaymentTxn":[{"Id":"5"}]}}`, "CreditCardPayment", "5"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := qbo.DecodeQuery([]byte(tt.body))
			require.NoError(t, err)
			require.Empty(t, r.NoID)
			require.Len(t, r.Entities, 1)
			require.Equal(t, tt.entity, r.Entities[0].Name)
			require.Equal(t, tt.id, r.Entities[0].ID)
		})
	}
	r, err := qbo.DecodeQuery([]byte(`{"QueryResponse":{"RecurringTransaction":[` + recurring + `]}}`))
	require.NoError(t, err)
	e := r.Entities[0]
	require.Equal(t, "3", e.SyncToken)
	require.Equal(t, utc(t, "2026-01-01T08:00:00Z"), e.LastUpdated)
	require.JSONEq(t, recurring, string(e.Raw), "the document is whole")
}

func TestKey_MissingIsReported(t *testing.T) {
	for _, body := range []string{
		`{"QueryResponse":{"ExchangeRate":[{"SourceCurrencyCode":"EUR"}]}}`,
		`{"QueryResponse":{"ExchangeRate":[{"SourceCurrencyCode":"EURO","AsOfDate":"2026-11-30"}]}}`,
		`{"QueryResponse":{"RecurringTransaction":[{"Name":"Rent","Bill":{"Id":"1"}}]}}`,
	} {
		r, err := qbo.DecodeQuery([]byte(body))
		require.NoError(t, err)
		require.Empty(t, r.Entities, body)
		require.Len(t, r.NoID, 1, body)
	}
}

func TestWithIDs_AsksByTheKey(t *testing.T) {
	require.Equal(t, "Id IN ('1', 'O\\'Neil')", qbo.WithIDs("Invoice", []string{"1", "O'Neil"}))
	require.Equal(t, "SourceCurrencyCode IN ('EUR', 'GBP') AND AsOfDate IN ('2026-11-29', '2026-11-30')",
		qbo.WithIDs("ExchangeRate", []string{"EUR-2026-11-29", "EUR-2026-11-30", "GBP-2026-11-30"}))
}

func TestClient_ReadsByTheKey(t *testing.T) {
	for _, tt := range []struct{ name, id, url, body string }{
		{"ExchangeRate", "EUR-2026-11-30", "/v3/company/1/exchangerate?asofdate=2026-11-30&include=enhancedAllCustomFields&minorversion=75&sourcecurrencycode=EUR", `{"ExchangeRate":` + rate + `}`},
		{"RecurringTransaction", "42", "/v3/company/1/recurringtransaction/42?include=enhancedAllCustomFields&minorversion=75", `{"RecurringTransaction":` + recurring + `}`},
		{"CreditCardPayment", "5", "/v3/company/1/creditcardpayment/5?include=enhancedAllCustomFields&minorversion=75", `{"CreditCardPaymentTxn":{"Id":"5"}}`},
	} {
		b := setup(t, func(w http.ResponseWriter, r *http.Request) {
			require.Equal(t, tt.url, r.URL.String())
			_, _ = w.Write([]byte(tt.body))
		})
		e, _, err := b.client.Read(t.Context(), "1", tt.name, tt.id)
		require.NoError(t, err)
		require.Equal(t, tt.id, e.ID)
	}
	b := setup(t, func(http.ResponseWriter, *http.Request) { t.Error("a call was made") })
	_, _, err := b.client.Read(t.Context(), "1", "ExchangeRate", "7")
	require.Error(t, err)
}

func TestContentHash_LooksThroughAWrapper(t *testing.T) {
	other := strings.Replace(recurring, "2026-01-01T00:00:00-08:00", "2026-01-01T08:00:00Z", 1)
	require.Equal(t, qbo.ContentHash([]byte(recurring)), qbo.ContentHash([]byte(other)), "the times are in another zone")
	require.NotEqual(t, qbo.ContentHash([]byte(recurring)), qbo.ContentHash([]byte(strings.Replace(recurring, `"TotalAmt":7`, `"TotalAmt":8`, 1))))
	require.NotEqual(t, qbo.ContentHash([]byte(recurring)), qbo.ContentHash([]byte(strings.Replace(recurring, "Bill", "Invoice", 1))))
}

func TestHasEnhancedFields(t *testing.T) {
	for _, tt := range []struct {
		document string
		want     bool
	}{
		{`{"Id":"1"}`, false},
		{`{"CustomField":[]}`, false},
		{`{"CustomField":[{"DefinitionId":"1"},{"DefinitionId":"2"},{"DefinitionId":"3"}]}`, false},
		{`{"CustomField":[{"DefinitionId":"1"},{"DefinitionId":"2"},{"DefinitionId":"3"},{"DefinitionId":"4"}]}`, true},
		{`{"CustomField":[{"DefinitionId":"1000000001"}]}`, true},
		{`{"Invoice":{"Id":"1","CustomField":[{"DefinitionId":7}]}}`, true},
		{`{"PrivateNote":"\"CustomField\""}`, false},
		{`{"Name":"CustomField","CustomField" : [{"DefinitionId":"9"}]}`, true},
		{`{"Name":"CustomField"`, false},
	} {
		require.Equal(t, tt.want, qbo.HasEnhancedFields([]byte(tt.document)), tt.document)
	}
	require.True(t, qbo.ShowsAllFields([]byte(`{"CustomField":[{},{},{},{}]}`)))
	require.False(t, qbo.ShowsAllFields([]byte(`{"CustomField":[{"DefinitionId":"1000000001"}]}`)), "it may be one of several")
}

// CDC is asked once with the parameter that Intuit documents for Query and reads. A realm
// that refuses it is asked without, and remembered.
func TestClient_CDCThatRefusesTheIncludeIsAskedWithout(t *testing.T) {
	for _, status := range []int{http.StatusBadRequest, http.StatusOK} {
		with, without := 0, 0
		b := setup(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("include") != "" {
				with++
				w.WriteHeader(status)
				_, _ = w.Write([]byte(`{"Fault":{"Error":[{"Message":"Request has invalid or unsupported property","code":"2010"}],"type":"ValidationFault"}}`))
				return
			}
			without++
			_, _ = w.Write(read(t, "cdc/intuit_doc_sample_skeleton.json"))
		})
		for range 3 {
			_, err := b.client.CDC(t.Context(), "1", []string{"Customer"}, utc(t, "2026-01-01T00:00:00Z"))
			require.NoError(t, err, "status %d", status)
		}
		require.Equal(t, [2]int{1, 3}, [2]int{with, without})
	}
}

package qbo_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
)

func TestClient_ReadPaths(t *testing.T) {
	for _, tt := range []struct {
		name string
		id   string
		path string
		body string
	}{
		{name: "creditmemo", id: "7", path: "/v3/company/9130/creditmemo/7", body: `{"CreditMemo":{"Id":"7"},"time":"2026-01-01T00:00:00Z"}`},
		{name: "CreditMemo", id: "7", path: "/v3/company/9130/creditmemo/7", body: `{"time":"2026-01-01T00:00:00Z","CreditMemo":{"Id":7}}`},
		{name: "Item", id: "a/b?c", path: "/v3/company/9130/item/a%2Fb%3Fc", body: `{"Item":{"Id":"a/b?c"},"time":"2026-01-01T00:00:00Z"}`},
		{name: "Preferences", id: "1", path: "/v3/company/9130/preferences", body: `{"Preferences":{"Id":"1"},"time":"2026-01-01T00:00:00Z"}`},
		{name: "CompanyInfo", id: "9130", path: "/v3/company/9130/companyinfo/9130", body: `{"CompanyInfo":{"Id":"1"},"time":"2026-01-01T00:00:00Z"}`},
	} {
		t.Run(tt.name+" "+tt.id, func(t *testing.T) {
			b := setup(t, func(w http.ResponseWriter, r *http.Request) {
				require.Equal(t, tt.path, r.URL.EscapedPath())
				require.Equal(t, "include=enhancedAllCustomFields&minorversion=75", r.URL.RawQuery)
				_, _ = w.Write([]byte(tt.body))
			})
			e, at, err := b.client.Read(t.Context(), "9130", tt.name, tt.id)
			require.NoError(t, err)
			require.Equal(t, utc(t, "2026-01-01T00:00:00Z"), at)
			require.NotEmpty(t, e.ID)
			require.Equal(t, e.Name, b.calls[0].Entity)
			require.Equal(t, "read", b.calls[0].Kind)
		})
	}
}

func TestClient_ReadTellsDeletedAndUnknownApart(t *testing.T) {
	b := setup(t, answer(200, "application/json", []byte(`{"Invoice":{"Id":"7","status":"Deleted","domain":"QBO"},"time":"2026-01-01T00:00:00Z"}`)))
	e, _, err := b.client.Read(t.Context(), "1", "Invoice", "7")
	require.NoError(t, err)
	require.True(t, e.Deleted)

	b = setup(t, answer(400, "application/json", []byte(`{"Fault":{"Error":[{"Message":"Object Not Found","Detail":"Object Not Found : Something you're trying to use has been made inactive. Check the fields with accounts, customers, items, vendors or employees.","code":"610","element":""}],"type":"ValidationFault"},"time":"2018-03-20T20:15:59.571-07:00"}`)))
	_, _, err = b.client.Read(t.Context(), "1", "Invoice", "7")
	require.ErrorIs(t, err, qbo.ErrNotFound)
	require.NotErrorIs(t, err, qbo.ErrPoison)
	require.False(t, qbo.Temporary(err))

	b = setup(t, answer(404, "text/html", []byte(`<html><body>Not Found</body></html>`)))
	_, _, err = b.client.Read(t.Context(), "1", "Invoice", "7")
	require.NotErrorIs(t, err, qbo.ErrNotFound, "a wrong base URL must not look like a deletion")
}

func TestClient_ReadRefusesAnotherRecord(t *testing.T) {
	for _, body := range []string{
		`{"Invoice":{"Id":"8"}}`, `{"Invoice":{}}`, `{"Customer":{"Id":"7"}}`, `{}`, `[]`, `{"Invoice":[{"Id":"7"}]}`, `{"Invoice":7}`,
	} {
		b := setup(t, answer(200, "application/json", []byte(body)))
		_, _, err := b.client.Read(t.Context(), "1", "Invoice", "7")
		require.ErrorIs(t, err, qbo.ErrMalformed, body)
	}
	b := setup(t, answer(200, "application/json", read(t, "errors/cdc_poison_record_4002.json")))
	_, _, err := b.client.Read(t.Context(), "1", "Invoice", "7")
	require.ErrorIs(t, err, qbo.ErrPoison)
}

func TestClient_ReadOfNothingAsksNothing(t *testing.T) {
	b := setup(t, func(http.ResponseWriter, *http.Request) { t.Error("a call was made") })
	for _, ref := range [][2]string{{"", "1"}, {"Item", ""}, {"Item", ".."}, {"..", "1"}} {
		_, _, err := b.client.Read(t.Context(), "1", ref[0], ref[1])
		require.Error(t, err)
	}
}

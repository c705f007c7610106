package qbo_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
)

func TestDecodeQuery_Forms(t *testing.T) {
	for _, tt := range []struct {
		name  string
		body  string
		ids   string
		start int
		max   int
		total int
	}{
		{name: "a page", body: `{"QueryResponse":{"Invoice":[{"Id":"2","SyncToken":"1"},{"Id":1}],"startPosition":3,"maxResults":2,"totalCount":9},"time":"2026-01-01T00:00:00.000-08:00"}`, ids: "2,1", start: 3, max: 2, total: 9},
		{name: "nothing", body: `{"QueryResponse":{},"time":"2026-01-01T00:00:00.000-08:00"}`},
		{name: "a count", body: `{"QueryResponse":{"totalCount":28},"time":"2026-01-01T00:00:00.000-08:00"}`, total: 28},
		{name: "counts as text", body: `{"QueryResponse":{"totalCount":"28","maxResults":-1,"startPosition":null},"time":"2026-01-01T00:00:00.000-08:00"}`, total: 28},
		{name: "without an Id", body: `{"QueryResponse":{"ExchangeRate":[{"Rate":1}],"maxResults":1},"time":"2026-01-01T00:00:00.000-08:00"}`, max: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := qbo.DecodeQuery([]byte(tt.body))
			require.NoError(t, err)
			var ids []string
			for _, e := range r.Entities {
				ids = append(ids, e.ID)
			}
			require.Equal(t, tt.ids, strings.Join(ids, ","))
			require.Equal(t, [3]int{tt.start, tt.max, tt.total}, [3]int{r.StartPosition, r.MaxResults, r.TotalCount})
			require.Equal(t, utc(t, "2026-01-01T08:00:00Z"), r.Time)
			require.Equal(t, tt.name == "without an Id", len(r.NoID) == 1)
		})
	}
}

func TestDecodeQuery_FaultsAndMalformedAnswers(t *testing.T) {
	_, err := qbo.DecodeQuery(read(t, "errors/query_unknown_entity_4001.json"))
	require.ErrorIs(t, err, qbo.ErrInvalidQuery)
	_, err = qbo.DecodeQuery([]byte(`{"QueryResponse":{"Fault":{"Error":[{"code":"4002"}]}}}`))
	require.ErrorIs(t, err, qbo.ErrPoison)
	for _, body := range []string{"", "<html>", `{"time":"x"}`, `{"QueryResponse":null}`, `{"QueryResponse":[]}`, `{"QueryResponse":{"Item":[1]}}`, `{"QueryResponse":{"Item":7`} {
		_, err := qbo.DecodeQuery([]byte(body))
		require.ErrorIs(t, err, qbo.ErrMalformed, body)
	}
}

func TestClient_QueryByGetAndLongOnesByPost(t *testing.T) {
	type seen struct{ method, statement, contentType, minor string }
	var got seen
	b := setup(t, func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, "/v3/company/9130/query", r.URL.Path)
		require.Less(t, len(r.URL.String()), 6<<10+1)
		require.NotContains(t, r.URL.RawQuery, "+", "a plus is a space in forms only")
		body, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		got = seen{r.Method, r.URL.Query().Get("query") + string(body), r.Header.Get("Content-Type"), r.URL.Query().Get("minorversion")}
		_, _ = w.Write([]byte(`{"QueryResponse":{"Customer":[{"Id":"1"}]},"time":"2026-01-01T00:00:00Z"}`))
	}, func(o *qbo.Options) { o.MinorVersion = 80 })

	short := `SELECT * FROM Customer WHERE DisplayName = 'O\'Neill + söhne' AND Active IN (true, false)`
	r, err := b.client.Query(t.Context(), "9130", short)
	require.NoError(t, err)
	require.Len(t, r.Entities, 1)
	require.Equal(t, seen{http.MethodGet, short, "", "80"}, got)
	require.Equal(t, "Customer", b.calls[0].Entity)
	require.Equal(t, "query", b.calls[0].Kind)

	long := "select * from customer where Id in (" + strings.Repeat("'1234567',", 1000) + "'1')"
	_, err = b.client.Query(t.Context(), "9130", long)
	require.NoError(t, err)
	require.Equal(t, seen{http.MethodPost, long, "application/text", "80"}, got)
	require.Equal(t, "Customer", b.calls[1].Entity)

	for size := 5 << 10; size < 7<<10; size += 16 { // no URL passes the limit on the way
		_, err = b.client.Query(t.Context(), "9130", "SELECT * FROM Nothing "+strings.Repeat("x", size))
		require.NoError(t, err)
	}
	require.Empty(t, b.calls[2].Entity, "an unknown entity is no label")
}

func TestQuote_CannotBeLeft(t *testing.T) {
	for in, want := range map[string]string{
		``:             `''`,
		`1`:            `'1'`,
		`O'Neill`:      `'O\'Neill'`,
		`a\`:           `'a\\'`,
		`\' OR 1=1 --`: `'\\\' OR 1=1 --'`,
	} {
		require.Equal(t, want, qbo.Quote(in))
	}
}

func TestFormatTime_IsUTCInWholeSeconds(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 999_999_999, time.FixedZone("", 3600))
	require.Equal(t, "2026-01-02T02:04:05Z", qbo.FormatTime(at))
}

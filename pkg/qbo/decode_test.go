package qbo_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
)

const record = `{"Id":"145","SyncToken":"3","Line":[{"Id":"1","Amount":277.23,"Description":"Pest Control","DetailType":"SalesItemLineDetail"},` +
	`{"Amount":368.91,"DetailType":"SubTotalLineDetail","SubTotalLineDetail":{}}],"MetaData":{"CreateTime":"2026-11-26T10:20:29Z",` +
	`"LastUpdatedTime":"2026-11-26T10:20:29Z"},"PrivateNote":"a \"b\" \u00e9","domain":"QBO","sparse":false}`

// Names are read as encoding/json would: in any case, escaped or not, and of two
// the last one counts.
func TestDecodeQuery_OddNames(t *testing.T) {
	for _, tt := range []struct{ name, body, id, token string }{
		{"as documented", `{"QueryResponse":{"Invoice":[{"Id":"1","SyncToken":"2"}]}}`, "1", "2"},
		{"in lower case", `{"queryresponse":{"invoice":[{"id":"1","synctoken":"2"}]}}`, "1", "2"},
		{"escaped", `{"QueryResponse":{"Invoice":[{"\u0049d":"1","SyncToken":"2"}]}}`, "1", "2"},
		{"twice", `{"QueryResponse":{"Invoice":[{"Id":"0","SyncToken":"2","ID":"1"}]}}`, "1", "2"},
		{"numbers", `{"QueryResponse":{"Invoice":[{"Id":1,"SyncToken":2}]}}`, "1", "2"},
		{"other types", `{"QueryResponse":{"Invoice":[{"Id":"1","SyncToken":{},"MetaData":[],"status":null}]}}`, "1", ""},
		{"one that is no list", `{"QueryResponse":{"Invoice":{"Id":"1","SyncToken":"2"}}}`, "1", "2"},
		{"no UTF-8", "{\"QueryResponse\":{\"Invoice\":[{\"Id\":\"1\xff\",\"SyncToken\":\"2\",\"\xff\":0}]}}", "1\uFFFD", "2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := qbo.DecodeQuery([]byte(tt.body))
			require.NoError(t, err)
			require.Len(t, r.Entities, 1)
			require.Equal(t, [3]string{"Invoice", tt.id, tt.token}, [3]string{r.Entities[0].Name, r.Entities[0].ID, r.Entities[0].SyncToken})
		})
	}
}

func TestDecodeQuery_RefusesWhatIsNoAnswer(t *testing.T) {
	for _, body := range []string{
		``, `null`, `[]`, `{}`, `{"QueryResponse":null}`, `{"QueryResponse":[]}`, `{"QueryResponse":{}} {}`, `{"QueryResponse":{"Invoice":[{"Id":"1"}]}`,
		`{"QueryResponse":{"Invoice":[1]}}`, `{"QueryResponse":{"Invoice":[{"Id":"1",}]}}`,
	} {
		_, err := qbo.DecodeQuery([]byte(body))
		require.ErrorIs(t, err, qbo.ErrMalformed, body)
	}
}

// The bytes of a record are those of the answer, and nobody who appends to them
// writes into the next one.
func TestDecodeQuery_RecordsAreKeptAsTheyCame(t *testing.T) {
	body := []byte(`{"QueryResponse":{"Invoice":[ ` + record + ` , ` + record + `]}}`)
	r, err := qbo.DecodeQuery(body)
	require.NoError(t, err)
	require.Len(t, r.Entities, 2)
	_ = append(r.Entities[0].Raw, strings.Repeat("x", 100)...)
	require.Equal(t, record, string(r.Entities[0].Raw))
	require.Equal(t, record, string(r.Entities[1].Raw))
}

func BenchmarkDecodeQuery(b *testing.B) {
	body := []byte(`{"QueryResponse":{"Invoice":[` + strings.Repeat(record+",", 399) + record + `],"startPosition":1,"maxResults":400},"time":"2026-11-26T10:20:29Z"}`)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := qbo.DecodeQuery(body); err != nil {
			b.Fatal(err)
		}
	}
}

package qbo_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
)

func TestContentHash_IsOfWhatTheDocumentSays(t *testing.T) {
	const document = `{"Id":"1","Balance":100,"Line":[{"Amount":1.5},{"Amount":2}],"MetaData":{"LastUpdatedTime":"2026-11-02T01:00:00-08:00"}}`
	for _, test := range []struct {
		name, document string
		same           bool
	}{
		{"itself", document, true},
		{"spacing", "{ \"Id\": \"1\",\n\"Balance\": 100, \"Line\":[{\"Amount\":1.5},{\"Amount\":2}]}", true},
		{"order of members", `{"Balance":100,"Line":[{"Amount":1.5},{"Amount":2}],"Id":"1"}`, true},
		{"another zone", `{"Id":"1","Balance":100,"Line":[{"Amount":1.5},{"Amount":2}],"MetaData":{"LastUpdatedTime":"2026-11-02T09:00:00Z"}}`, true},
		{"trailing zeros", `{"Id":"1","Balance":100.00,"Line":[{"Amount":1.50},{"Amount":2}]}`, true},
		{"domain and sparse", `{"domain":"QBO","sparse":false,"Id":"1","Balance":100,"Line":[{"Amount":1.5},{"Amount":2}]}`, true},
		{"escapes", `{"\u0049d":"1","Balance":100,"Line":[{"Amount":1.5},{"Amount":2}]}`, true},
		{"another balance", `{"Id":"1","Balance":99.99,"Line":[{"Amount":1.5},{"Amount":2}]}`, false},
		{"another order of lines", `{"Id":"1","Balance":100,"Line":[{"Amount":2},{"Amount":1.5}]}`, false},
		{"nested MetaData counts", `{"Id":"1","Balance":100,"Line":[{"Amount":1.5,"MetaData":1},{"Amount":2}]}`, false},
		{"cut off", document[:40], false},
	} {
		t.Run(test.name, func(t *testing.T) {
			require.Equal(t, test.same, qbo.ContentHash([]byte(document)) == qbo.ContentHash([]byte(test.document)))
			require.Len(t, qbo.ContentHash([]byte(test.document)), 11)
		})
	}
	require.Empty(t, qbo.ContentHash(nil))
}

func BenchmarkContentHash(b *testing.B) {
	document := []byte(`{"Id":"1","SyncToken":"3","Balance":100.25,"CustomerRef":{"value":"1","name":"A customer"},"Line":[{"Amount":1.5,"Description":"some work"},{"Amount":2}],"MetaData":{"LastUpdatedTime":"2026-11-02T01:00:00-08:00"}}`)
	b.SetBytes(int64(len(document)))
	b.ReportAllocs()
	for b.Loop() {
		qbo.ContentHash(document)
	}
}

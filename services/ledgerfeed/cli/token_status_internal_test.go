package cli

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
)

// A refresh that Intuit refuses for another reason than the token is shown with its answer
// and the next try.
func TestTokenView_ShowsRefreshesThatAreRefused(t *testing.T) {
	at := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	v := tokenViewOf(connection.Listed{Key: "k1", Connection: connection.Connection{RefreshRefusal: &connection.RefreshRefusal{
		At: at, Count: 3, Next: at.Add(4 * time.Minute), Message: "intuit answered 400: invalid_request", TID: "1-tid",
	}}})
	var out bytes.Buffer
	v.rows(&out)
	for _, want := range []string{"refresh failed", "3 times: intuit answered 400: invalid_request", "1-tid", "2026-11-30 12:04:00"} {
		require.Contains(t, out.String(), want)
	}
	text, err := json.Marshal(v)
	require.NoError(t, err)
	require.Contains(t, string(text), `"refresh_refusal":{"description":"intuit answered 400: invalid_request","intuit_tid":"1-tid","at":"2026-11-30T12:00:00Z","times":3,"next_try":"2026-11-30T12:04:00Z"}`)
}

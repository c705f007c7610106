package chaos

import (
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A rewind is done once CDC was asked, after it, for what is as old as it says.
func TestRewind_IsLostUntilCDCIsAskedFromThere(t *testing.T) {
	b := &books{asked: map[string][]cdcCall{}}
	ask := func(realm string, since time.Time) {
		u, err := url.Parse("/v3/company/" + realm + "/cdc?entities=Invoice&changedSince=" + url.QueryEscape(since.Format(time.RFC3339)))
		require.NoError(t, err)
		b.noteCDC(realm, u)
	}
	to := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	ask("1", to.Add(-time.Hour)) // before it
	w := rewind{at: time.Now(), to: to}
	require.False(t, b.askedFrom("1", w))
	ask("1", to.Add(time.Hour)) // the scan that was under way
	ask("2", to.Add(-time.Hour))
	b.noteCDC("1", &url.URL{Path: "/v3/company/1/query"})
	require.False(t, b.askedFrom("1", w))
	ask("1", to)
	require.True(t, b.askedFrom("1", w))
}

func TestReport_IsWhatTheLogGainsSince(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	require.Zero(t, size(log))
	require.False(t, logged(log, 0, "eviction"))
	require.NoError(t, os.WriteFile(log, []byte("eviction\n"), 0o600))
	from := size(log)
	require.True(t, logged(log, 0, "eviction"))
	require.False(t, logged(log, from, "eviction"))
	f, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString("an eviction\n")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.True(t, logged(log, from, "eviction"))
}

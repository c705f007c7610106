package console_test

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/action"
)

func TestConsole_ScansAreAskedForShownAndCancelled(t *testing.T) {
	t.Parallel()
	b := setup(t, withTokens)
	auth := []string{"Authorization", "Bearer " + operatorToken}
	act := func(what string, form url.Values) (int, string) {
		t.Helper()
		resp, body := b.ask(http.MethodPost, "/api/v1/realms/"+realm+"/"+what, form, auth...)
		return resp.StatusCode, body
	}
	page := func() string {
		t.Helper()
		resp, body := b.ask(http.MethodGet, "/realms/"+realm, nil, auth...)
		require.Equal(t, http.StatusOK, resp.StatusCode, body)
		return body
	}
	status, _ := act("cancel", url.Values{})
	require.Equal(t, http.StatusConflict, status, "nothing runs")
	status, _ = act("backfill", url.Values{"entity": {"Unicorn"}})
	require.Equal(t, http.StatusBadRequest, status)

	require.NoError(t, b.store.AdvanceCursors(t.Context(), realm, map[string]time.Time{"Bill": time.Now()}))
	require.NoError(t, b.store.Refused(t.Context(), realm, state.Refusal{
		Entity: "Budget", Way: state.RefusedByQuery, At: time.Now(), First: time.Now(), Text: "5020 Permission Denied", Lasting: true,
	}))
	require.Contains(t, page(), "QuickBooks refuses it for this company")
	require.Contains(t, page(), "5020 Permission Denied")
	status, body := act("backfill", url.Values{"entity": {"Bill"}})
	require.Equal(t, http.StatusOK, status, body)
	require.Contains(t, body, "no reconciler is running")
	j, err := b.store.Job(t.Context(), realm)
	require.NoError(t, err)
	require.Equal(t, state.JobQueued, j.State)
	require.True(t, j.Load)
	require.Equal(t, []string{"Bill"}, j.Entities)
	require.Equal(t, "operator (token): console", j.By)
	cursors, err := b.store.Cursors(t.Context(), realm)
	require.NoError(t, err)
	require.Contains(t, cursors, "Bill", "they stay until it is done")
	status, body = act("scan", url.Values{})
	require.Equal(t, http.StatusConflict, status)
	require.Contains(t, body, "is queued")
	require.Contains(t, page(), "Waits for a reconciler")

	// As a reconciler takes it and tells how far it is.
	now := time.Now()
	jobs, err := b.store.ClaimJobs(t.Context(), time.Minute, 1)
	require.NoError(t, err)
	require.Len(t, jobs, 1)
	j = jobs[0]
	j.State, j.Started = state.JobRunning, now.Add(-10*time.Second)
	j.Progress = state.JobProgress{Entities: 1, Records: 1500, Expected: 6000, Missing: 3, Calls: 2}
	_, err = b.store.Report(t.Context(), j, time.Minute)
	require.NoError(t, err)
	shown := page()
	require.Contains(t, shown, `max="6000" value="1500"`)
	require.Contains(t, shown, "3 missing at a sink")
	require.Regexp(t, `(29|30|31)\.\d s left`, shown)

	status, body = act("cancel", url.Values{})
	require.Equal(t, http.StatusOK, status, body)
	cancelled, err := b.store.Report(t.Context(), j, time.Minute)
	require.NoError(t, err)
	require.True(t, cancelled, "the reconciler is told")
	j.State, j.Ended, j.Error = state.JobCancelled, time.Now(), ""
	_, err = b.store.Report(t.Context(), j, 0)
	require.NoError(t, err)
	shown = page()
	require.Contains(t, shown, "cancelled")
	require.NotContains(t, shown, "<progress")

	status, body = act("scan", url.Values{})
	require.Equal(t, http.StatusOK, status, body)
	actions, err := action.Newest(t.Context(), b.broker, nil, 0, 10)
	require.NoError(t, err)
	require.Len(t, actions, 6)
	require.Equal(t, "scan", actions[0].What)
	require.Equal(t, "realm "+realm, actions[0].On)
}

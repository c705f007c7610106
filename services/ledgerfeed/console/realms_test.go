package console_test

import (
	"html"
	"net/http"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/console"
)

// A person knows a company by its name.
func TestRealms_AreShownWithTheirNames(t *testing.T) {
	t.Parallel()
	b := setup(t, func(*console.ConsoleConfig) {})
	require.NoError(t, b.store.SetCompany(t.Context(), state.Company{Realm: realm, Name: "Larry & Sons", ReadAt: time.Now()}))
	gap := state.Gap{Realm: realm, Ref: state.Ref{Entity: "Invoice", ID: "1"}, Version: 1, Found: time.Now(), Operation: "update", Source: "cdc", Verdict: state.VerdictLost}
	fresh, err := b.store.NoteGaps(t.Context(), realm, []state.Gap{gap})
	require.NoError(t, err)
	require.NoError(t, b.store.CountGaps(t.Context(), realm, fresh, map[state.Kind]bool{}))
	require.NoError(t, b.broker.PublishDead(t.Context(), stream.DeadLetter{Reason: stream.ReasonUnreadable, RealmID: realm, Body: []byte("x"), At: time.Now()}))
	for _, page := range []string{"/realms", "/realms/" + realm, "/gaps", "/audit?realm=" + realm, "/dead", "/dead/1"} {
		resp, body := b.ask(http.MethodGet, page, nil)
		require.Equal(t, http.StatusOK, resp.StatusCode, page)
		require.Contains(t, body, "Larry &amp; Sons", page)
	}
}

// What a page offers to choose from, and leads to, is taken.
func TestRealms_EveryStateThatIsOfferedCanBeChosen(t *testing.T) {
	t.Parallel()
	b := setup(t, func(*console.ConsoleConfig) {})
	_, body := b.ask(http.MethodGet, "/realms", nil)
	offered := regexp.MustCompile(`<option value="([^"]*)"`).FindAllStringSubmatch(body, -1)
	require.Len(t, offered, 10, "any, and nine states")
	for _, o := range offered {
		resp, body := b.ask(http.MethodGet, "/realms?state="+html.UnescapeString(o[1]), nil)
		require.Equal(t, http.StatusOK, resp.StatusCode, "%s: %s", o[1], body)
	}
	_, body = b.ask(http.MethodGet, "/realms?state=catching_up", nil)
	require.Contains(t, body, `<option value="catching_up" selected>`)
	require.Contains(t, body, realm)
	require.Contains(t, body, `class="badge s-catching_up"`)
	resp, _ := b.ask(http.MethodGet, "/realms?state=asleep", nil)
	require.Equal(t, http.StatusBadRequest, resp.StatusCode)
}

package console_test

import (
	"html"
	"net/http"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/console"
)

// What a page offers to choose from, and leads to, is taken.
func TestRealms_EveryStateThatIsOfferedCanBeChosen(t *testing.T) {
	t.Parallel()
	b := setup(t, func(*console.ConsoleConfig) {})
	_, body := b.ask(http.MethodGet, "/realms", nil)
	offered := regexp.MustCompile(`<option value="([^"]*)"`).FindAllStringSubmatch(body, -1)
	require.Len(t, offered, 9, "any, and eight states")
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

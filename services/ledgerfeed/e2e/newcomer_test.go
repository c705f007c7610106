package e2e_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// newcomer follows docs/first-hour.md in a shell: the commands are those of the page.
type newcomer struct {
	*testing.T
	page string
	env  []string
	dir  string
}

// run runs a block of commands that the page has, with what stands between "$ " and
// the outputs, and returns what they print.
func (n *newcomer) run(holds string) string {
	n.Helper()
	for block := range strings.SplitSeq(n.page, "```") {
		if !strings.Contains(block, holds) || !strings.HasPrefix(block, "\n$ ") {
			continue
		}
		var script strings.Builder
		goesOn := false
		for line := range strings.Lines(block) {
			command, isCommand := strings.CutPrefix(line, "$ ")
			if isCommand || goesOn {
				script.WriteString(command)
				goesOn = strings.HasSuffix(strings.TrimSpace(line), "|")
			}
		}
		cmd := exec.CommandContext(n.Context(), "bash", "-e", "-o", "pipefail", "-c", script.String())
		cmd.Dir, cmd.Env = n.dir, append(os.Environ(), n.env...)
		out, err := cmd.CombinedOutput()
		require.NoError(n, err, "%s\n%s", script.String(), out)
		return string(out)
	}
	require.Fail(n, "the page has no such commands", holds)
	return ""
}

// A newcomer connects a company, sees a change, breaks the sink, finds what it refused
// and has it delivered again, by the page's commands alone.
func TestNewcomer_ByTheCommandLineAlone(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "first-hour.md"))
	require.NoError(t, err)
	n := &newcomer{T: t, page: string(page), dir: t.TempDir()}
	var taken sync.Map // changes, by subject
	var refused, posts atomic.Int64
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		posts.Add(1)
		if _, err := os.Stat(filepath.Join(n.dir, "broken")); err == nil {
			refused.Add(1)
			http.Error(w, "the ledger is locked", http.StatusUnprocessableEntity)
			return
		}
		for _, id := range []string{"1", "2"} {
			if strings.Contains(string(body), "/realms/9341075894179999") && strings.Contains(string(body), `"subject":"Invoice/`+id+`"`) {
				taken.Store("Invoice/"+id, true)
			}
		}
	}))
	defer receiver.Close()
	has := func(subject string) func() bool {
		return func() bool { _, ok := taken.Load(subject); return ok }
	}
	p := startDev(t, filepath.Join(n.dir, "data"), "--rate", "1", "--sink", "webhook:"+receiver.URL)
	sim := p.field("quickbooks")
	n.env = []string{
		"SIM=" + sim, "LEDGERFEED_NATS_URL=" + p.field("nats"), "LEDGERFEED_REDIS_URL=" + p.field("redis"),
		"LEDGERFEED_CONNECTION_KEYS_FILE=" + filepath.Join(n.dir, "data", "encryption.key"),
		"LEDGERFEED_QBO_BASE_URL=" + sim, "LEDGERFEED_QBO_TOKEN_URL=" + sim + "/oauth2/v1/tokens/bearer",
		"LEDGERFEED_QBO_CLIENT_ID=ledgerfeed-dev", "LEDGERFEED_QBO_CLIENT_SECRET=ledgerfeed-dev-secret",
	}
	require.Contains(t, n.run("ledgerfeed token import"), "9341075894179999")
	n.run(`"DocNumber":"1037"`)
	require.Eventually(t, has("Invoice/1"), time.Minute, 10*time.Millisecond)

	// The block that breaks the sink looks at once; here the letter is waited for.
	n.page = strings.ReplaceAll(n.page, "$ ledgerfeed dead ls --realm", "$ until ledgerfeed dead ls --realm 9341075894179999 --json | grep -q Invoice; do sleep 0.2; done\n$ ledgerfeed dead ls --realm")
	n.page = strings.ReplaceAll(n.page, "sink show webhook-67d8ea34", `sink show $(ledgerfeed sink ls --json | sed 's/.*"sink":"\([^"]*\)".*/\1/')`)
	// Who reads the page is slower than the first load of the companies: a sink that refuses
	// all of that at once is down, and has few dead letters.
	last := int64(-1)
	require.Eventually(t, func() bool {
		before := last
		last = posts.Load()
		return before >= 0 && last-before <= 2
	}, patience, time.Second)
	found := n.run("touch broken")
	require.Contains(t, found, "the endpoint answered 422 Unprocessable Entity")
	require.Contains(t, found, "dead letters")
	require.Positive(t, refused.Load())
	require.False(t, has("Invoice/2")())

	n.run("rm broken")
	require.Eventually(t, has("Invoice/2"), time.Minute, 10*time.Millisecond)
	p.signal(syscall.SIGTERM)
	require.Zero(t, p.code())
}

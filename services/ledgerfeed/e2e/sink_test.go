package e2e_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

func TestSink_IsPausedAndResumed(t *testing.T) {
	t.Parallel()
	url := devtest.Redis(t)
	store, err := state.Open(t.Context(), state.Options{Config: state.Config{URL: secret.String(url)}})
	require.NoError(t, err)
	defer store.Close()
	_, err = store.SetSinks(t.Context(), []string{"crm", "books"})
	require.NoError(t, err)
	sink := func(code int, args ...string) string {
		t.Helper()
		cmd := exec.Command("ledgerfeed", append(append([]string{"sink"}, args...), "--redis-url", url)...)
		out, _ := cmd.CombinedOutput()
		require.Equal(t, code, cmd.ProcessState.ExitCode(), "%s", out)
		return string(out)
	}
	require.Contains(t, sink(0, "pause", "crm", "--dry-run"), "would pause sink crm")
	require.Contains(t, sink(2, "pause", "crm"), "--yes")
	require.NotContains(t, sink(0, "ls", "--json"), "true")
	sink(0, "pause", "crm", "--yes")
	require.Contains(t, sink(0, "ls", "--json"), `{"sink":"crm","state":"paused","paused":true}`)
	require.Contains(t, sink(0, "ls"), "what waits is not shown")
	paused, err := store.PausedSinks(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"crm"}, paused)
	sink(0, "resume", "crm", "-y")
	require.NotContains(t, sink(0, "ls"), "paused")
	require.Contains(t, sink(2, "pause", "nope", "--yes"), "nope")
}

// What waits for a sink that is down is counted, and how much of it was tried again.
func TestSink_ShowSaysWhatWaits(t *testing.T) {
	t.Parallel()
	down := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }))
	defer down.Close()
	p := startDev(t, t.TempDir(), "--rate", "10", "--sink", "jsonl:"+filepath.Join(t.TempDir(), "changes.jsonl"), "--sink", "webhook:"+down.URL)
	env := []string{"LEDGERFEED_REDIS_URL=" + p.field("redis"), "LEDGERFEED_NATS_URL=" + p.field("nats")}
	ask := func(args ...string) []byte {
		cmd := exec.Command("ledgerfeed", append([]string{"sink"}, args...)...)
		cmd.Env = append(os.Environ(), env...)
		out, err := cmd.Output()
		require.NoError(t, err)
		return out
	}
	name := regexp.MustCompile(`webhook-[0-9a-f]+`).FindString(string(ask("ls")))
	require.NotEmpty(t, name)
	var shown struct {
		Waiting, Retried uint64
		State, Error     string
		Failures         int
	}
	require.Eventually(t, func() bool {
		return json.Unmarshal(ask("show", name, "--json"), &shown) == nil && shown.Waiting > 0 && shown.Retried > 0 && shown.State == "down"
	}, 2*time.Minute, 200*time.Millisecond)
	require.Equal(t, "the endpoint answered 500 Internal Server Error", shown.Error)
	require.GreaterOrEqual(t, shown.Failures, 3)
	require.Regexp(t, name+`\s+down\s+\S+s\s+\d+\s+in \S+\s+the endpoint answered 500 Internal Server Error`, string(ask("ls")))
	require.NotContains(t, string(ask("show", name)), "sanitized")
	store, err := state.Open(t.Context(), state.Options{Config: state.Config{URL: secret.String(p.field("redis"))}})
	require.NoError(t, err)
	defer store.Close()
	require.NoError(t, store.AddSanitized(t.Context(), name, 3))
	require.Regexp(t, `(?m)^sanitized +3 documents were stored with characters replaced$`, string(ask("show", name)))
	p.signal(syscall.SIGTERM)
	require.Zero(t, p.code())
}

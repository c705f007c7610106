package e2e_test

import (
	"os/exec"
	"testing"

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
	require.Contains(t, sink(0, "ls", "--json"), `{"sink":"crm","paused":true}`)
	paused, err := store.PausedSinks(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"crm"}, paused)
	sink(0, "resume", "crm", "-y")
	require.NotContains(t, sink(0, "ls"), "paused")
	require.Contains(t, sink(2, "pause", "nope", "--yes"), "nope")
}

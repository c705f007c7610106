package e2e_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"os/user"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/action"
)

// What the command line does is in the trail, with the user of the operating system; what
// it only shows, tries dry or is used wrongly for is not.
func TestActions_OfTheCommandLineAreRecorded(t *testing.T) {
	t.Parallel()
	redis, nats := devtest.Redis(t), devtest.NATS(t)
	store, err := state.Open(t.Context(), state.Options{Config: state.Config{URL: secret.String(redis)}})
	require.NoError(t, err)
	defer store.Close()
	_, err = store.SetSinks(t.Context(), []string{"crm"})
	require.NoError(t, err)
	run := func(code int, nats string, args ...string) string {
		t.Helper()
		cmd := exec.Command("ledgerfeed", args...)
		cmd.Env = append(os.Environ(), "LEDGERFEED_REDIS_URL="+redis, "LEDGERFEED_NATS_URL="+nats, "LEDGERFEED_NATS_PROFILE=dev", "LEDGERFEED_NATS_ACTIONS_MAX_BYTES=1048576")
		out, _ := cmd.Output()
		require.Equal(t, code, cmd.ProcessState.ExitCode(), "%s", out)
		return string(out)
	}
	run(0, nats, "gap", "ls")
	run(0, nats, "sink", "pause", "crm", "--dry-run")
	run(2, nats, "sink", "pause", "nope", "--yes")
	require.Contains(t, run(0, nats, "actions", "verify"), "no actions")
	run(0, nats, "sink", "pause", "crm", "--yes")
	// Without NATS it waits in Redis: pausing a sink may be what the hour asks for.
	run(0, "nats://127.0.0.1:1", "sink", "resume", "crm", "--yes")
	var got []action.Stored
	for line := range strings.Lines(run(0, nats, "actions", "--json")) {
		var e action.Stored
		require.NoError(t, json.Unmarshal([]byte(line), &e))
		got = append(got, e)
	}
	require.Len(t, got, 2)
	me, err := user.Current()
	require.NoError(t, err)
	host, err := os.Hostname()
	require.NoError(t, err)
	for i, what := range []string{"sink resume", "sink pause"} {
		require.Equal(t, what, got[i].What)
		require.Equal(t, "crm", got[i].On)
		require.Equal(t, "done", got[i].Outcome)
		require.Contains(t, got[i].Who, me.Username+"@"+host)
		require.Equal(t, action.CLI, got[i].Via)
	}
	require.Contains(t, run(0, nats, "actions", "--what", "pause"), "sink pause")
	verified := run(0, nats, "actions", "verify")
	require.Contains(t, verified, "2 entries")
	require.Contains(t, run(0, nats, "actions", "verify", "--hash", got[1].Hash), got[0].Hash)
	run(1, nats, "actions", "verify", "--hash", "0000")
}

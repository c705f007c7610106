package e2e_test

import (
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

func TestDeletions_AreListedApprovedAndRejected(t *testing.T) {
	t.Parallel()
	url := devtest.Redis(t)
	store, err := state.Open(t.Context(), state.Options{Config: state.Config{URL: secret.String(url)}})
	require.NoError(t, err)
	defer store.Close()
	const realm = "9341453000000001"
	run := func(code int, args ...string) string {
		t.Helper()
		cmd := exec.Command("ledgerfeed", append(append([]string{"deletions"}, args...), "--redis-url", url)...)
		out, _ := cmd.CombinedOutput()
		require.Equal(t, code, cmd.ProcessState.ExitCode(), "%s", out)
		return string(out)
	}
	require.Contains(t, run(0, "ls"), "no deletions are held")
	for _, name := range []string{"TimeActivity", "Vendor"} {
		h, err := store.HeldDeletion(t.Context(), realm, name)
		require.NoError(t, err)
		h.State, h.Count, h.Of, h.Sample, h.Since, h.At = state.DeletionHeld, 30, 100, []string{"7", "8"}, time.Now(), time.Now()
		require.NoError(t, store.HoldDeletion(t.Context(), h))
	}
	require.Contains(t, run(0, "ls"), "7 8")
	require.Contains(t, run(0, "ls", "--json"), `"entity":"TimeActivity","state":"held","count":30,"of":100`)
	require.Contains(t, run(0, "approve", realm, "timeactivity", "--dry-run"), "would approve 30 deletions of 100 records of TimeActivity")
	require.Contains(t, run(2, "approve", realm, "TimeActivity"), "--yes")
	require.Contains(t, run(2, "approve", realm, "Invoice", "--yes"), "no deletions are held")
	run(0, "approve", realm, "TimeActivity", "--yes")
	run(0, "reject", realm, "Vendor", "--yes")
	h, err := store.HeldDeletion(t.Context(), realm, "TimeActivity")
	require.NoError(t, err)
	require.Equal(t, state.DeletionApproved, h.State)
	require.Contains(t, h.By, "ledgerfeed deletions approve")
	due, err := store.Due(t.Context(), realm)
	require.NoError(t, err)
	require.False(t, due.IsZero(), "the company is scanned now")
	require.NotContains(t, run(0, "ls"), "Vendor")
	require.Contains(t, run(2, "reject", realm, "Vendor", "--yes"), "no deletions are held")
}

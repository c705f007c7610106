package cli

import (
	"bytes"
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// The generation of sessions, which the consoles compare, is another one after the command.
func TestSessionEnd_BeginsAnotherGeneration(t *testing.T) {
	url := devtest.Redis(t)
	store, err := state.Open(t.Context(), state.Options{Config: state.Config{URL: secret.String(url)}})
	require.NoError(t, err)
	t.Cleanup(func() { store.Close() })
	generation := func() string { return store.Redis().Get(t.Context(), state.Key("console", "sessions")).Val() }
	var out bytes.Buffer
	run := func(args ...string) {
		p := process{config: DefaultConfig(), stdin: &bytes.Buffer{}, stdout: &out, stderr: &out}
		require.NoError(t, p.run(context.WithoutCancel(t.Context()), append([]string{"session", "end", "--redis-url", url}, args...), nil))
	}
	run("--dry-run")
	require.Empty(t, generation())
	run("--yes")
	first := generation()
	require.NotEmpty(t, first)
	run("--yes")
	require.NotEqual(t, first, generation())
	require.Contains(t, out.String(), "ended all sessions")
}

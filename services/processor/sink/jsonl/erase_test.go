package jsonl_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/jsonl"
)

func TestErase_TakesTheLinesOfOneCompany(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, old := filepath.Join(dir, "changes.jsonl"), filepath.Join(dir, "changes.20261126T184117.123Z.jsonl")
	mine := `{"key":"11/Invoice/1/5","realm":"11","entity":"Invoice","id":"1","document":{"Memo":"22"}}` + "\n"
	other := `{"key":"22/Invoice/1/5","realm":"22","entity":"Invoice","id":"11","document":{"Memo":"11/","CustomerRef":"11"}}` + "\n"
	torn := `{"key":"22/In`
	write := func() {
		require.NoError(t, os.WriteFile(old, []byte(mine+other+mine+other), 0o600))
		require.NoError(t, os.WriteFile(path, []byte(other+mine+torn), 0o600))
	}
	read := func(name string) string {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		return string(b)
	}
	erase := func(open, dryRun bool) jsonl.Erased {
		e, err := jsonl.EraseRealm(t.Context(), path, "11", open, dryRun)
		require.NoError(t, err)
		return e
	}
	write()
	require.Equal(t, jsonl.Erased{Lines: 2, Left: 1}, erase(true, true))
	require.Equal(t, mine+other+mine+other, read(old), "a dry run changes nothing")

	require.Equal(t, jsonl.Erased{Lines: 2, Left: 1}, erase(true, false))
	require.Equal(t, other+other, read(old))
	require.Equal(t, other+mine+torn, read(path), "a processor writes to it")
	require.Equal(t, jsonl.Erased{Left: 1}, erase(true, false))

	write()
	require.Equal(t, jsonl.Erased{Lines: 3}, erase(false, false))
	require.Equal(t, other+torn, read(path))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 2, "no file is left behind")

	// Interrupted, each file is as it was or as it shall be.
	write()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = jsonl.EraseRealm(ended, path, "11", false, false)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 2, strings.Count(read(old), mine))
	none, err := jsonl.EraseRealm(t.Context(), filepath.Join(dir, "missing", "x.jsonl"), "11", false, false)
	require.NoError(t, err)
	require.Zero(t, none)
}

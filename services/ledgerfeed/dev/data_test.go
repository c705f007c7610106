package dev

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
)

func TestDataDir_KeepsKeyAndRealms(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b")
	first, err := openDataDir(path)
	require.NoError(t, err)
	key, err := first.key()
	require.NoError(t, err)
	realms, err := first.realmIDs(3)
	require.NoError(t, err)
	require.Regexp(t, `^dev:[A-Za-z0-9+/]{43}=$`, key.Reveal())
	require.Regexp(t, `^9341[0-9]{12}$`, realms[0])
	info, err := os.Stat(filepath.Join(path, "encryption.key"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	require.NoError(t, first.Close())

	second, err := openDataDir(path)
	require.NoError(t, err)
	defer second.Close()
	again, err := second.key()
	require.NoError(t, err)
	require.Equal(t, key.Reveal(), again.Reveal())
	more, err := second.realmIDs(5)
	require.NoError(t, err)
	require.Equal(t, realms, more[:3])
}

func TestDataDir_IsOwnedByOne(t *testing.T) {
	path := t.TempDir()
	first, err := openDataDir(path)
	require.NoError(t, err)
	_, err = openDataDir(path)
	require.ErrorContains(t, err, "another ledgerfeed dev is using it")
	require.Equal(t, lifecycle.ExitUsage, lifecycle.ExitCode(err))

	require.NoError(t, first.Close())
	again, err := openDataDir(path)
	require.NoError(t, err)
	require.NoError(t, again.Close())
}

func TestDataDir_EmptiedPlaceIsAnotherSink(t *testing.T) {
	d, err := openDataDir(t.TempDir())
	require.NoError(t, err)
	defer d.Close()
	to := Target{Kind: kindJSONL, Where: "x"}
	first, err := d.sinkName(to, false)
	require.NoError(t, err)
	second, err := d.sinkName(to, true)
	require.NoError(t, err)
	require.NotEqual(t, first, second)
	again, err := d.sinkName(to, false)
	require.NoError(t, err)
	require.Equal(t, second, again)
}

package config

import (
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

func TestExposed_IsAFileThatEverybodyMayRead(t *testing.T) {
	file := func(mode os.FileMode) *fstest.MapFile { return &fstest.MapFile{Mode: mode} }
	dir := func(mode os.FileMode) *fstest.MapFile { return &fstest.MapFile{Mode: os.ModeDir | mode} }
	root := fstest.MapFS{
		"etc":                 dir(0o755),
		"etc/open":            file(0o644),
		"etc/group":           file(0o640),
		"etc/own":             file(0o600),
		"run":                 dir(0o755),
		"run/hidden":          dir(0o750),
		"run/hidden/open":     file(0o644),
		"run/given":           file(0o444),
		"proc/self/mountinfo": &fstest.MapFile{Data: []byte("36 35 98:0 /host/secret /run/given ro - ext4 /dev/x ro\n"), Mode: 0o444},
	}
	for path, want := range map[string]bool{
		"/etc/open": true, "/etc/group": false, "/etc/own": false, "/run/hidden/open": false, "/run/given": false, "/etc/absent": false, "/etc": false,
	} {
		require.Equal(t, want, exposed(root, path), path)
	}
}

func TestSecretFiles_AreThoseOfSecrets(t *testing.T) {
	type group struct {
		Token secret.String `koanf:"token"`
		User  string        `koanf:"user" file:"true"`
	}
	type settings struct {
		Ingress group `koanf:"ingress"`
	}
	file := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(file, []byte("ingress:\n  token_file: /a\n  user_file: /b\n"), 0o600))
	require.Equal(t, map[string]string{"ingress.token": "/a"}, SecretFiles(&settings{}, file, nil))
	require.Equal(t, map[string]string{"ingress.token": "/c"}, SecretFiles(&settings{}, "", []string{"LEDGERFEED_INGRESS_TOKEN_FILE=/c"}))
}

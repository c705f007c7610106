package e2e_test

import (
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// journalTokens are what the simulator hands out, as its journal has them.
var journalTokens = regexp.MustCompile(`"(?:access|refresh|code)":"([^"]{20,})"`)

// No token is in any output, whatever the log level, nor readable in what is
// kept, and a token that runs out is replaced.
func TestDev_KeepsSecrets(t *testing.T) {
	t.Setenv("LEDGERFEED_LOG_LEVEL", "debug")
	const verifier = "d0n0tsh0wthist0ken"
	dir := t.TempDir()
	p := startDev(t, dir, "--verifier-token", verifier, "--rate", "20", "--drop", "0.2")
	sim := p.field("quickbooks")
	realm := strings.TrimSpace(read(t, filepath.Join(dir, "realms"))) + "000"
	resp, err := http.Post(sim+"/sim/realms/"+realm+"/expire", "application/json", nil)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)

	journal := filepath.Join(dir, "quickbooks.journal")
	tokens := func() []string {
		var all []string
		for _, m := range journalTokens.FindAllStringSubmatch(read(t, journal), -1) {
			all = append(all, m[1])
		}
		return all
	}
	before := len(tokens())
	require.NotZero(t, before)
	require.Eventually(t, func() bool { return len(tokens()) > before }, time.Minute, 20*time.Millisecond, "the token was refreshed")
	p.signal(syscall.SIGTERM)
	require.Zero(t, p.code())
	require.Contains(t, p.stderr.String(), "debug")

	key := strings.TrimPrefix(strings.TrimSpace(read(t, filepath.Join(dir, "encryption.key"))), "dev:")
	secrets := append(tokens(), verifier, key)
	output := p.stdout.String() + p.stderr.String()
	for _, secret := range secrets {
		require.NotContains(t, output, secret)
	}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path == journal || d.Name() == "encryption.key" {
			return err
		}
		text := read(t, path)
		for _, secret := range secrets {
			require.False(t, strings.Contains(text, secret), "%s holds a secret", path)
		}
		return nil
	}))
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(b)
}

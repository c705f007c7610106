package secrets_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/secrets"
)

var update = flag.Bool("update", false, "write deploy's authorization.conf again")

// deploy is where the configurations are that these secrets are for.
const deploy = "../../../deploy"

// given are secrets in a directory that ends as it does in a container: run/secrets.
func given(t *testing.T) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "run", "secrets")
	require.NoError(t, secrets.Make(secrets.Options{Dir: dir, IngressApps: "demo=token", ClientSecret: "secret"}))
	return dir
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	require.NoError(t, err)
	return string(text)
}

func secretOf(t *testing.T, path ...string) string { return strings.TrimSpace(read(t, path...)) }

package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	testName = regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9_]+)`")
	fileName = regexp.MustCompile("`((?:pkg|services)/[a-z/]+\\.go)`")
)

var root = filepath.Join("..", "..", "..")

// The page says which test shows an invariant and which file holds a step: both
// must be there.
func TestArchitecture_NamesWhatExists(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "architecture.md"))
	require.NoError(t, err)
	requireTests(t, string(page), 20)
	files := fileName.FindAllStringSubmatch(string(page), -1)
	require.Greater(t, len(files), 10)
	for _, m := range files {
		require.FileExists(t, filepath.Join(root, m[1]))
	}
}

// So does the page about scans.
func TestReconciliation_NamesWhatExists(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "reconciliation.md"))
	require.NoError(t, err)
	requireTests(t, string(page), 5)
}

// requireTests wants page to name tests, more than least, and each to be there.
func requireTests(t *testing.T, page string, least int) {
	t.Helper()
	grep := exec.Command("grep", "-rhoE", "^func (Test|Fuzz)[A-Za-z0-9_]+", "--include=*_test.go", "pkg", "services")
	grep.Dir = root
	out, err := grep.Output()
	require.NoError(t, err)
	have := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		have[strings.TrimSpace(strings.TrimPrefix(line, "func "))] = true
	}
	names := testName.FindAllStringSubmatch(page, -1)
	require.Greater(t, len(names), least)
	for _, m := range names {
		require.True(t, have[m[1]], "the page names %s, which is no test", m[1])
	}
}

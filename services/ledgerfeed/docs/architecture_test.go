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

// So does the page that names the tests behind the pages for users.
func TestEvidence_NamesWhatExists(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "lab", "evidence.md"))
	require.NoError(t, err)
	requireTests(t, string(page), 45)
}

var linkedTest = regexp.MustCompile(`\[(Test[A-Za-z0-9_]+)\]\((\.\./[a-z0-9/_]+_test\.go)\)`)

// Each control on the page about security leads to the test that attacks it.
func TestSecurity_EachControlLeadsToItsTest(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "security.md"))
	require.NoError(t, err)
	links := linkedTest.FindAllStringSubmatch(string(page), -1)
	require.Greater(t, len(links), 30)
	for _, m := range links {
		file, err := os.ReadFile(filepath.Join(root, "docs", m[2]))
		require.NoError(t, err)
		require.Contains(t, string(file), "func "+m[1]+"(", "%s has no such test", m[2])
	}
	_, controls, _ := strings.Cut(string(page), "## Controls")
	controls, _, _ = strings.Cut(controls, "## Retention")
	for line := range strings.Lines(controls) {
		if strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| attack |") {
			require.Regexp(t, linkedTest, line, "a control without a test")
		}
	}
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

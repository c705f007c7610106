package archtest_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"golang.org/x/tools/txtar"

	"github.com/ledgerfeed/ledgerfeed/pkg/internal/archtest"
)

func TestWorkspace_KeepsTheRules(t *testing.T) {
	w, err := archtest.Load(t.Context(), root(t))
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, p := range w.Packages {
		seen[p.Path] = true
	}
	for _, path := range []string{"proto/ledgerfeed/v1", "pkg/stream", "pkg/internal/archtest", "services/ingress/cmd/ingress", "services/ledgerfeed/cli", "services/ledgerfeed/bench"} {
		require.True(t, seen[path], "%s is not in the workspace: are the others?", path)
	}
	for _, rule := range archtest.Rules() {
		t.Run(rule.Name, func(t *testing.T) {
			if broken := rule.Check(w); len(broken) > 0 {
				t.Errorf("%s:\n%s", rule.Why, lines(broken))
			}
		})
	}
}

// Each rule is shown to fail, at the places it should and no others.
func TestRules_FindWhatBreaksThem(t *testing.T) {
	archive, err := txtar.ParseFile(filepath.Join("testdata", "violating.txtar"))
	require.NoError(t, err)
	dir := t.TempDir()
	want := ""
	for _, f := range archive.Files {
		if f.Name == "want" {
			want = string(f.Data)
			continue
		}
		// A line "lines N" at the end stands for N empty ones.
		content := string(f.Data)
		for _, n := range []int{800, 801, 1000, 1001} {
			mark := "// lines " + strconv.Itoa(n) + "\n"
			if rest, ok := strings.CutSuffix(content, mark); ok {
				content = rest + strings.Repeat("\n", n-strings.Count(rest, "\n"))
			}
		}
		name := filepath.Join(dir, filepath.FromSlash(f.Name))
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		require.NoError(t, os.WriteFile(name, []byte(content), 0o644))
	}
	w, err := archtest.Load(t.Context(), dir)
	require.NoError(t, err)

	var found []archtest.Violation
	for _, rule := range archtest.Rules() {
		broken := rule.Check(w)
		require.NotEmpty(t, broken, "rule %s finds nothing in the fixture: it is not shown to work", rule.Name)
		found = append(found, broken...)
	}
	require.Empty(t, cmp.Diff(strings.TrimSpace(want), strings.TrimSpace(lines(found))))
}

func TestLoad_SaysWhatIsWrong(t *testing.T) {
	_, err := archtest.Load(t.Context(), t.TempDir())
	require.ErrorContains(t, err, "go.work")
}

// root is the directory of go.work.
func root(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	require.NoError(t, err)
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		require.NotEqual(t, dir, parent, "no go.work above this package")
		dir = parent
	}
}

func lines(vs []archtest.Violation) string {
	var b strings.Builder
	for _, v := range vs {
		b.WriteString(v.String() + "\n")
	}
	return b.String()
}

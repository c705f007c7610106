package main

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	prefix  = "github.com/ledgerfeed/ledgerfeed/"
	version = "v0.2.0"
)

// bundle is a small repository: a library, a service that requires it, and a module that
// nobody outside needs.
type bundle struct {
	options
	said bytes.Buffer
}

func setup(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{}
	root := t.TempDir()
	b.options = options{root: root, out: filepath.Join(root, "build", "release"), version: version, docker: "false",
		unreleased: []string{"services/bench"}, platforms: []string{runtime.GOOS + "/" + runtime.GOARCH}, stdout: &b.said}
	b.write(t, map[string]string{
		".gitignore":                     "/build/\n",
		"LICENSE":                        "free\n",
		"go.work":                        "go 1.26\n\nuse (\n\t./pkg\n\t./services/bench\n\t./services/feed\n)\n",
		"docs/changelog.md":              "# Changelog\n\n## Unreleased\n\n- later\n\n## v0.2.0 - 2026-12-01\n\n### Added\n- a library\n\n## v0.1.0\n\n- first\n",
		"pkg/go.mod":                     "module " + prefix + "pkg\n\ngo 1.26\n",
		"pkg/lifecycle/lifecycle.go":     "package lifecycle\n\nvar version = \"dev\"\n\nfunc Version() string { return version }\n",
		"services/bench/go.mod":          "module " + prefix + "services/bench\n\ngo 1.26\n\nrequire " + prefix + "pkg v0.0.0\n\nreplace " + prefix + "pkg => ../../pkg\n",
		"services/feed/go.mod":           "module " + prefix + "services/feed\n\ngo 1.26\n\nrequire " + prefix + "pkg v0.0.0\n\nreplace " + prefix + "pkg => ../../pkg\n",
		"services/feed/cmd/feed/main.go": "package main\n\nimport \"" + prefix + "pkg/lifecycle\"\n\nfunc main() { println(lifecycle.Version()) }\n",
	})
	b.git(t, "init", "--quiet")
	b.commit(t)
	return b
}

func (b *bundle) write(t *testing.T, files map[string]string) {
	t.Helper()
	for name, text := range files {
		name = filepath.Join(b.root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		require.NoError(t, os.WriteFile(name, []byte(text), 0o644))
	}
}

func (b *bundle) git(t *testing.T, args ...string) {
	t.Helper()
	_, err := command(t.Context(), b.root, nil, "git", args...)
	require.NoError(t, err)
}

func (b *bundle) commit(t *testing.T) {
	t.Helper()
	b.git(t, "add", "--all")
	b.git(t, "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "--quiet", "--message", "test")
}

func (b *bundle) modules(t *testing.T) []releasedModule {
	t.Helper()
	modules, err := released(b.root, b.unreleased)
	require.NoError(t, err)
	return modules
}

func TestCheckVersion_IsExact(t *testing.T) {
	for _, v := range []string{"v0.1.0", "v1.20.3", "v0.1.0-rc.1"} {
		require.NoError(t, checkVersion(v), v)
	}
	for _, v := range []string{"", "0.1.0", "v1", "v1.2", "v01.2.3", "v1.2.3+build", "9dea09e", "v0.1.0-1-g9dea09e-dirty "} {
		require.Error(t, checkVersion(v), v)
	}
}

func TestCheck_NamesWhatIsWrong(t *testing.T) {
	for _, tc := range []struct {
		name  string
		spoil func(t *testing.T, b *bundle)
		want  []string
	}{
		{"a change", func(t *testing.T, b *bundle) { b.writeFile(t, "pkg/new.go", "package pkg\n") }, []string{"pkg/new.go"}},
		{"no entry", func(t *testing.T, b *bundle) { b.version = "v0.3.0" }, []string{"no entries for v0.3.0"}},
		{"an empty entry", func(t *testing.T, b *bundle) {
			b.version = "v0.4.0"
			b.writeFile(t, "docs/changelog.md", "# Changelog\n\n## v0.4.0\n\n## v0.1.0\n- first\n")
			b.commit(t)
		}, []string{"no entries for v0.4.0"}},
		{"tags", func(t *testing.T, b *bundle) { b.git(t, "tag", version); b.git(t, "tag", "pkg/"+version) }, []string{"tag v0.2.0 exists", "tag pkg/v0.2.0 exists"}},
		{"a newer one", func(t *testing.T, b *bundle) { b.git(t, "tag", "v0.10.0") }, []string{"v0.10.0 is there already"}},
		{"another path", func(t *testing.T, b *bundle) {
			b.writeFile(t, "pkg/go.mod", "module "+prefix+"lib\n")
			b.commit(t)
		}, []string{"lib is in pkg"}},
		{"a major version", func(t *testing.T, b *bundle) { b.version = "v2.0.0" }, []string{"invalid version"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			tc.spoil(t, b)
			_, err := b.check(t.Context(), b.modules(t))
			for _, want := range tc.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
}

func (b *bundle) writeFile(t *testing.T, name, text string) {
	t.Helper()
	b.write(t, map[string]string{name: text})
}

func TestCheck_ReturnsTheNotes(t *testing.T) {
	b := setup(t)
	notes, err := b.check(t.Context(), b.modules(t))
	require.NoError(t, err)
	require.Equal(t, "### Added\n- a library\n", notes)
}

func TestReleased_KnowsWhatItLeavesOut(t *testing.T) {
	b := setup(t)
	require.Equal(t, []releasedModule{
		{dir: "pkg", path: prefix + "pkg"},
		{dir: "services/feed", path: prefix + "services/feed", programs: []string{"cmd/feed"}},
	}, b.modules(t))
	_, err := released(b.root, []string{"services/nosuch"})
	require.ErrorContains(t, err, "services/nosuch")
}

// Modules, a program and checksums, of what is committed; the repository stays as it was.
func TestRelease_OfASmallRepository(t *testing.T) {
	b := setup(t)
	modules := b.modules(t)
	require.NoError(t, b.prepare(t.Context(), modules))
	require.NoError(t, b.pack(t.Context(), modules))
	require.NoError(t, b.resolve(t.Context(), modules))

	feed := filepath.Join(b.out, "modules", prefix, "services/feed/@v")
	mod, err := os.ReadFile(filepath.Join(feed, version+".mod"))
	require.NoError(t, err)
	require.Contains(t, string(mod), "require "+prefix+"pkg "+version)
	z, err := zip.OpenReader(filepath.Join(feed, version+".zip"))
	require.NoError(t, err)
	defer z.Close()
	var names []string
	for _, f := range z.File {
		names = append(names, strings.TrimPrefix(f.Name, prefix+"services/feed@"+version+"/"))
	}
	require.ElementsMatch(t, []string{"LICENSE", "cmd/feed/main.go", "go.mod"}, names)

	b.lister = filepath.Join(t.TempDir(), "lister")
	require.NoError(t, os.WriteFile(b.lister, []byte("#!/bin/sh\nwhile [ $# -gt 1 ]; do [ \"$1\" = -output ] && echo '{}' >\"$2\"; shift; done\n"), 0o755))
	require.NoError(t, b.build(t.Context(), modules))
	require.NoError(t, b.images(t.Context(), modules))
	require.Contains(t, b.said.String(), "images   left out: no container engine answers\n")
	program := filepath.Join(b.out, fmt.Sprintf("feed_%s_%s_%s", version, runtime.GOOS, runtime.GOARCH))
	out, err := exec.CommandContext(t.Context(), program).CombinedOutput()
	require.NoError(t, err)
	require.Equal(t, version+"\n", string(out))
	require.FileExists(t, program+".cdx.json")

	require.NoError(t, os.RemoveAll(b.source()))
	require.NoError(t, checksums(b.out))
	sums, err := os.ReadFile(filepath.Join(b.out, "SHA256SUMS"))
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(sums)), "\n")
	require.Len(t, lines, 2*4+2, "four files a module, a program and its list")
	for _, line := range lines {
		sum, name, _ := strings.Cut(line, "  ")
		text, err := os.ReadFile(filepath.Join(b.out, name))
		require.NoError(t, err)
		hash := sha256.Sum256(text)
		require.Equal(t, hex.EncodeToString(hash[:]), sum, name)
	}

	state, err := command(t.Context(), b.root, nil, "git", "status", "--porcelain")
	require.NoError(t, err)
	require.Empty(t, state)
	tags, err := command(t.Context(), b.root, nil, "git", "tag")
	require.NoError(t, err)
	require.Empty(t, tags)
	require.Contains(t, commands(b.options, modules), "git push --atomic origin HEAD v0.2.0 pkg/v0.2.0 services/feed/v0.2.0\n")
}

// Outside the repository nobody finds a module that was not released.
func TestResolve_FindsWhatIsNotReleased(t *testing.T) {
	b := setup(t)
	b.unreleased = []string{"pkg", "services/bench"}
	modules := b.modules(t)
	require.NoError(t, b.prepare(t.Context(), modules))
	require.NoError(t, b.pack(t.Context(), modules))
	t.Setenv("GOPROXY", "file://"+t.TempDir())
	require.ErrorContains(t, b.resolve(t.Context(), modules), prefix+"pkg")
}

func TestWriteVersions_ChangesRequirementsAlone(t *testing.T) {
	b := setup(t)
	require.NoError(t, writeVersions(t.Context(), b.root, b.modules(t), version))
	changed, err := command(t.Context(), b.root, nil, "git", "diff", "--unified=0")
	require.NoError(t, err)
	lines := map[string]int{}
	for line := range strings.Lines(changed) {
		if strings.HasPrefix(line, "+") && !strings.HasPrefix(line, "+++") {
			lines[strings.TrimSpace(line)]++
		}
	}
	require.Equal(t, []string{"+require " + prefix + "pkg " + version}, slices.Collect(maps.Keys(lines)))
	require.Equal(t, 2, lines["+require "+prefix+"pkg "+version], "of the service and of the module that is not released")
}

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

// releasedModule is one that others can require.
type releasedModule struct {
	dir, path string
	programs  []string // directories with a main package, below dir
}

func (m releasedModule) tag(version string) string { return m.dir + "/" + version }

// released are the modules of the workspace but for some, sorted by directory.
func released(root string, unreleased []string) ([]releasedModule, error) {
	name := filepath.Join(root, "go.work")
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	work, err := modfile.ParseWork(name, text, nil)
	if err != nil {
		return nil, err
	}
	var modules []releasedModule
	for _, use := range work.Use {
		dir := path.Clean(use.Path)
		if slices.Contains(unreleased, dir) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, dir, "go.mod"))
		if err != nil {
			return nil, err
		}
		m := releasedModule{dir: dir, path: modfile.ModulePath(text)}
		mains, err := filepath.Glob(filepath.Join(root, dir, "cmd", "*", "main.go"))
		if err != nil {
			return nil, err
		}
		for _, main := range mains {
			m.programs = append(m.programs, "cmd/"+filepath.Base(filepath.Dir(main)))
		}
		modules = append(modules, m)
	}
	for _, dir := range unreleased {
		if !slices.ContainsFunc(work.Use, func(u *modfile.Use) bool { return path.Clean(u.Path) == dir }) {
			return nil, fmt.Errorf("%s, which is not to be released, is no module of go.work", dir)
		}
	}
	slices.SortFunc(modules, func(a, b releasedModule) int { return cmp.Compare(a.dir, b.dir) })
	return modules, nil
}

// writeVersions has every go.mod file of the tree that requires a released module require
// the version. Its replace directives stay: outside the repository they mean nothing.
func writeVersions(ctx context.Context, root string, modules []releasedModule, version string) error {
	files, err := command(ctx, root, nil, "git", "ls-files", "go.mod", "*/go.mod")
	if err != nil {
		return err
	}
	for _, file := range strings.Fields(files) {
		name := filepath.Join(root, file)
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		f, err := modfile.Parse(name, text, nil)
		if err != nil {
			return err
		}
		for _, r := range slices.Clone(f.Require) {
			if slices.ContainsFunc(modules, func(m releasedModule) bool { return m.path == r.Mod.Path }) {
				if err := f.AddRequire(r.Mod.Path, version); err != nil {
					return err
				}
			}
		}
		changed, err := f.Format()
		if err != nil {
			return err
		}
		if err := os.WriteFile(name, changed, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (o options) proxy() string { return filepath.Join(o.out, "modules") }

// pack writes the modules in the layout that GOPROXY=file://… reads.
func (o options) pack(ctx context.Context, modules []releasedModule) error {
	stamp, err := command(ctx, o.source(), nil, "git", "log", "-1", "--format=%cI")
	if err != nil {
		return err
	}
	at, err := time.Parse(time.RFC3339, stamp)
	if err != nil {
		return err
	}
	for _, m := range modules {
		escaped, err := module.EscapePath(m.path)
		if err != nil {
			return err
		}
		base := filepath.Join(o.proxy(), escaped, "@v")
		if err := os.MkdirAll(base, 0o755); err != nil {
			return err
		}
		text, err := os.ReadFile(filepath.Join(o.source(), m.dir, "go.mod"))
		if err != nil {
			return err
		}
		info, err := json.Marshal(struct {
			Version string
			Time    time.Time
		}{o.version, at.UTC()})
		if err != nil {
			return err
		}
		for name, content := range map[string][]byte{"list": []byte(o.version + "\n"), o.version + ".mod": text, o.version + ".info": info} {
			if err := os.WriteFile(filepath.Join(base, name), content, 0o644); err != nil {
				return err
			}
		}
		size, err := o.zip(m, filepath.Join(base, o.version+".zip"))
		if err != nil {
			return fmt.Errorf("pack %s: %w", m.dir, err)
		}
		o.say("module   %s %s (%.1f MB)", m.path, m.tag(o.version), float64(size)/1e6)
	}
	return nil
}

func (o options) zip(m releasedModule, name string) (size int64, err error) {
	f, err := os.Create(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	version := module.Version{Path: m.path, Version: o.version}
	if err := zip.CreateFromVCS(f, version, o.source(), "HEAD", m.dir); err != nil {
		return 0, err
	}
	if err := f.Close(); err != nil {
		return 0, err
	}
	if _, err := zip.CheckZip(version, name); err != nil {
		return 0, err
	}
	stat, err := os.Stat(name)
	if err != nil {
		return 0, err
	}
	return stat.Size(), nil
}

// resolve lists all that a module outside the repository needs which requires every module
// of the release: one that requires an unreleased module of ours is found here.
func (o options) resolve(ctx context.Context, modules []releasedModule) error {
	env, err := command(ctx, o.root, nil, "go", "env", "GOPROXY", "GOMODCACHE")
	if err != nil {
		return err
	}
	proxy, cache, _ := strings.Cut(env, "\n")
	outside, err := os.MkdirTemp("", "ledgerfeed-release-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(outside) }()
	mod, sums := "module outside\n\ngo 1.26\n\n", ""
	prefixes := []string{}
	for _, m := range modules {
		mod += fmt.Sprintf("require %s %s\n", m.path, o.version)
		prefixes = append(prefixes, m.path)
		text, err := os.ReadFile(filepath.Join(o.source(), m.dir, "go.sum"))
		if err != nil && !os.IsNotExist(err) {
			return err
		}
		sums += string(text)
	}
	for name, text := range map[string]string{"go.mod": mod, "go.sum": sums} {
		if err := os.WriteFile(filepath.Join(outside, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	// The cache is another one, which is thrown away: in the machine's own, what a dry run
	// packed would stay under the version of the release.
	_, err = command(ctx, outside, []string{
		"GOWORK=off", "GOFLAGS=-mod=mod -modcacherw", "GOMODCACHE=" + filepath.Join(outside, "cache"), "GONOSUMDB=" + strings.Join(prefixes, ","), "GONOPROXY=none", "GOPRIVATE=",
		"GOPROXY=file://" + filepath.ToSlash(o.proxy()) + ",file://" + filepath.ToSlash(cache) + "/cache/download," + proxy,
	}, "go", "list", "-m", "all")
	if err != nil {
		return fmt.Errorf("resolve the modules outside the repository: %w", err)
	}
	o.say("resolved %d modules outside the repository", len(modules))
	return nil
}

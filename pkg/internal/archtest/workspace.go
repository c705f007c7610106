package archtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// Prefix starts the import path of every package of the project.
const Prefix = "github.com/ledgerfeed/ledgerfeed/"

// Workspace is the source of all modules of a go.work.
type Workspace struct {
	// Packages are those of the project.
	Packages []*Package
	// imports are the direct ones of every package of a build, tests left out,
	// the standard library and other modules included.
	imports map[string][]string
}

// Package is a package of the project.
type Package struct {
	// Path is its import path without [Prefix]: "services/ingress/cmd/ingress".
	Path  string
	Files []*File
}

// File is a source file of a package, whichever platform it is for.
type File struct {
	// Name is its path from the root of the workspace.
	Name  string
	Lines int
	Test  bool
	// Generated is true for what a tool wrote; it keeps the import rules only.
	Generated bool

	tree *ast.File
	set  *token.FileSet
}

// Main reports whether the package is a program.
func (p *Package) Main() bool { return p.Files[0].tree.Name.Name == "main" }

// Load reads the workspace whose go.work is in root.
func Load(ctx context.Context, root string) (*Workspace, error) {
	// "work" is the pattern for all packages of all modules in go.work.
	cmd := exec.CommandContext(ctx, "go", "list", "-deps", "-json=ImportPath,Dir,Imports,Standard", "work")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOWORK="+filepath.Join(root, "go.work"), "GOFLAGS=-mod=readonly", "PWD="+root)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list in %s: %w\n%s", root, err, stderr.String())
	}
	w := &Workspace{imports: map[string][]string{}}
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var listed struct {
			ImportPath, Dir string
			Imports         []string
			Standard        bool
		}
		if err := decoder.Decode(&listed); errors.Is(err, io.EOF) {
			return w, nil
		} else if err != nil {
			return nil, fmt.Errorf("read go list: %w", err)
		}
		w.imports[listed.ImportPath] = listed.Imports
		if !strings.HasPrefix(listed.ImportPath, Prefix) {
			continue
		}
		p, err := loadPackage(root, listed.Dir, strings.TrimPrefix(listed.ImportPath, Prefix))
		if err != nil {
			return nil, err
		}
		w.Packages = append(w.Packages, p)
	}
}

func loadPackage(root, dir, path string) (*Package, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	p := &Package{Path: path}
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		f := &File{Lines: bytes.Count(content, []byte("\n")), Test: strings.HasSuffix(name, "_test.go"), set: token.NewFileSet()}
		if f.Name, err = filepath.Rel(root, name); err != nil {
			return nil, err
		}
		if f.tree, err = parser.ParseFile(f.set, name, content, parser.ParseComments|parser.SkipObjectResolution); err != nil {
			return nil, err
		}
		f.Generated = ast.IsGenerated(f.tree)
		p.Files = append(p.Files, f)
	}
	if len(p.Files) == 0 {
		return nil, fmt.Errorf("no Go files in %s", dir)
	}
	return p, nil
}

// Imports are the import paths of a file, those of the project without [Prefix].
func (f *File) Imports() []string {
	paths := make([]string, 0, len(f.tree.Imports))
	for _, spec := range f.tree.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // the parser has checked it
		}
		paths = append(paths, strings.TrimPrefix(path, Prefix))
	}
	return paths
}

// at is a place in the file, for people.
func (f *File) at(pos token.Pos) string {
	return fmt.Sprintf("%s:%d", f.Name, f.set.Position(pos).Line)
}

// Needs finds the packages that are built into path, tests left out, and gives
// for each the one that imports it.
func (w *Workspace) Needs(path string) map[string]string {
	needs := map[string]string{}
	rest := []string{Prefix + path}
	for len(rest) > 0 {
		from := rest[0]
		rest = rest[1:]
		for _, to := range w.imports[from] {
			if _, seen := needs[to]; !seen {
				needs[to] = from
				rest = append(rest, to)
			}
		}
	}
	short := make(map[string]string, len(needs))
	for to, from := range needs {
		short[strings.TrimPrefix(to, Prefix)] = strings.TrimPrefix(from, Prefix)
	}
	return short
}

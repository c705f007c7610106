package archtest

import (
	"go/ast"
	"strings"
)

const (
	maxLines     = 800
	maxTestLines = 1000
)

// eachFile calls visit for every file that a person wrote.
func (w *Workspace) eachFile(visit func(p *Package, f *File)) {
	for _, p := range w.Packages {
		for _, f := range p.Files {
			if !f.Generated {
				visit(p, f)
			}
		}
	}
}

func docs(w *Workspace, report func(string, string, ...any)) {
	for _, p := range w.Packages {
		documented, written := 0, false
		for _, f := range p.Files {
			written = written || !f.Generated
			if f.tree.Doc == nil {
				continue
			}
			documented++
			start := "Package " + strings.TrimSuffix(f.tree.Name.Name, "_test") + " "
			if p.Main() {
				start = "Command "
			}
			if !strings.HasPrefix(f.tree.Doc.Text(), start) && !f.Generated {
				report(f.Name, "the package doc does not start with %q", start)
			}
		}
		if written && documented != 1 {
			report(p.Path, "has %d package docs, want 1", documented)
		}
	}
}

func inits(w *Workspace, report func(string, string, ...any)) {
	w.eachFile(func(_ *Package, f *File) {
		for _, d := range f.tree.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Name.Name == "init" && fn.Recv == nil {
				report(f.at(fn.Pos()), "has an init function")
			}
		}
	})
}

func sizes(w *Workspace, report func(string, string, ...any)) {
	w.eachFile(func(_ *Package, f *File) {
		limit := maxLines
		if f.Test {
			limit = maxTestLines
		}
		if f.Lines > limit {
			report(f.Name, "has %d lines, more than %d", f.Lines, limit)
		}
	})
}

// call is a use of a name of another package in production code.
type call struct {
	in         *Package
	path, name string // "time", "Sleep"
}

// calls makes the rule that forbids what bad says yes to.
func calls(bad func(c call) bool) func(*Workspace, func(string, string, ...any)) {
	return func(w *Workspace, report func(string, string, ...any)) {
		w.eachFile(func(p *Package, f *File) {
			if f.Test {
				return
			}
			names := importNames(f)
			ast.Inspect(f.tree, func(n ast.Node) bool {
				s, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				x, ok := s.X.(*ast.Ident)
				if !ok || names[x.Name] == "" {
					return true
				}
				if c := (call{in: p, path: names[x.Name], name: s.Sel.Name}); bad(c) {
					report(f.at(s.Pos()), "uses %s.%s", c.path, c.name)
				}
				return true
			})
		})
	}
}

// importNames is what the imports of a file are called in it. Without a name of
// its own a package is taken to be called as the end of its path; for the
// packages the rules speak of that is so.
func importNames(f *File) map[string]string {
	names := map[string]string{}
	for i, path := range f.Imports() {
		name := path[strings.LastIndex(path, "/")+1:]
		if spec := f.tree.Imports[i]; spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = path
	}
	return names
}

func sleeps(c call) bool { return c.path == "time" && c.name == "Sleep" }

func globals(c call) bool {
	forbidden := map[string][]string{
		"go.uber.org/zap": {"L", "S", "ReplaceGlobals"},
		"github.com/prometheus/client_golang/prometheus": {"Register", "MustRegister", "DefaultRegisterer", "DefaultGatherer"},
		"github.com/prometheus/client_golang/prometheus/promauto": {
			"NewCounter", "NewCounterVec", "NewGauge", "NewGaugeVec", "NewHistogram", "NewHistogramVec",
		},
		"net/http": {"DefaultClient", "Get", "Post", "PostForm", "Head", "DefaultServeMux", "Handle", "HandleFunc", "ListenAndServe"},
		"log":      {"Print", "Printf", "Println", "Fatal", "Fatalf", "Fatalln", "Panic", "Panicf", "SetOutput"},
		"log/slog": {"Debug", "Info", "Warn", "Error", "Default", "SetDefault"},
		"flag":     {"Parse", "String", "Int", "Bool", "Duration", "StringVar"},
	}
	for _, name := range forbidden[c.path] {
		if name == c.name {
			return true
		}
	}
	return false
}

func environment(c call) bool {
	reads := c.path == "os" && (c.name == "Getenv" || c.name == "LookupEnv" || c.name == "Environ")
	return reads && !c.in.Main() && !helper(c.in.Path) && !under(c.in.Path, "services/ledgerfeed/cli", "pkg/sabotage")
}

func exits(c call) bool {
	return c.path == "os" && c.name == "Exit" && !c.in.Main() && !helper(c.in.Path) && !under(c.in.Path, "pkg/lifecycle")
}

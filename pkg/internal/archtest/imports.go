package archtest

import "strings"

// eachImport calls visit for every direct import, in tests too.
func (w *Workspace) eachImport(visit func(p *Package, f *File, path string)) {
	for _, p := range w.Packages {
		for _, f := range p.Files {
			for _, path := range f.Imports() {
				visit(p, f, path)
			}
		}
	}
}

func layers(w *Workspace, report func(string, string, ...any)) {
	forbidden := map[string][]string{"proto": {"pkg", "services"}, "pkg": {"services"}}
	w.eachImport(func(p *Package, f *File, path string) {
		layer, _, _ := strings.Cut(p.Path, "/")
		if under(path, forbidden[layer]...) {
			report(f.Name, "%s imports %s", layer, path)
		}
	})
}

func services(w *Workspace, report func(string, string, ...any)) {
	w.eachImport(func(p *Package, f *File, path string) {
		from, to := service(p.Path), service(path)
		if from != "" && to != "" && from != to && from != "ledgerfeed" {
			report(f.Name, "imports %s", path)
		}
	})
}

// service is the name of the service a package belongs to, or "".
func service(path string) string {
	rest, ok := strings.CutPrefix(path, "services/")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}

// only makes the rule that nothing but the packages imports what starts with
// prefix. Tests may: they look at a server behind the back of what they test.
func only(prefix string, packages ...string) func(*Workspace, func(string, string, ...any)) {
	return func(w *Workspace, report func(string, string, ...any)) {
		w.eachImport(func(p *Package, f *File, path string) {
			if strings.HasPrefix(path, prefix) && !f.Test && !under(p.Path, packages...) {
				report(f.Name, "imports %s", path)
			}
		})
	}
}

// peers holds for tests too: what a test imports is in the go.mod of its module.
func peers(w *Workspace, report func(string, string, ...any)) {
	w.eachImport(func(p *Package, f *File, path string) {
		if under(path, "github.com/ThreeDotsLabs", "github.com/riverqueue") && !under(p.Path, "services/ledgerfeed/bench") {
			report(f.Name, "imports %s", path)
		}
	})
}

func ingress(w *Workspace, report func(string, string, ...any)) {
	for _, p := range w.Packages {
		if !under(p.Path, "services/ingress") {
			continue
		}
		for path, from := range w.Needs(p.Path) {
			api := under(path, "pkg/qbo") && !under(path, "pkg/qbo/webhook", "pkg/qbo/entity")
			if api || under(path, "pkg/state", "pkg/connection") || strings.HasPrefix(path, "github.com/redis/") {
				report(p.Path, "needs %s, imported by %s", path, from)
			}
		}
	}
}

func testServers(w *Workspace, report func(string, string, ...any)) {
	servers := []string{"pkg/qbosim", "pkg/devserver"}
	w.eachImport(func(p *Package, f *File, path string) {
		if under(path, servers...) && !f.Test && !under(p.Path, append(servers, "services/ledgerfeed")...) {
			report(f.Name, "imports %s", path)
		}
	})
	for _, p := range w.Packages {
		if !under(p.Path, "services/ingress", "services/processor", "services/reconciler") || !p.Main() {
			continue
		}
		for path, from := range w.Needs(p.Path) {
			if under(path, servers...) || under(path, "github.com/nats-io/nats-server", "github.com/alicebob/miniredis") {
				report(p.Path, "contains %s, imported by %s", path, from)
			}
		}
	}
}

func testCode(w *Workspace, report func(string, string, ...any)) {
	w.eachImport(func(p *Package, f *File, path string) {
		library := under(path, "testing", "github.com/stretchr/testify", "github.com/google/go-cmp", "go.uber.org/goleak", "pgregory.net/rapid")
		if (library || helper(path)) && !f.Test && !helper(p.Path) {
			report(f.Name, "imports %s", path)
		}
	})
}

package archtest

import (
	"fmt"
	"slices"
	"strings"
)

// Rule is one thing that must hold everywhere.
type Rule struct {
	// Name is short and unique; it starts the line of each violation.
	Name string
	// Why is the reason, printed with the first violation.
	Why   string
	check func(w *Workspace, report func(where, format string, a ...any))
}

// Violation is a place that breaks a rule.
type Violation struct{ Rule, Where, What string }

func (v Violation) String() string { return fmt.Sprintf("%s: %s: %s", v.Rule, v.Where, v.What) }

// Check returns what breaks the rule, sorted.
func (r Rule) Check(w *Workspace) []Violation {
	var found []Violation
	r.check(w, func(where, format string, a ...any) {
		found = append(found, Violation{Rule: r.Name, Where: where, What: fmt.Sprintf(format, a...)})
	})
	slices.SortFunc(found, func(a, b Violation) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(found)
}

// Rules are those of the project; docs/architecture.md gives the picture.
func Rules() []Rule {
	return []Rule{
		{"layers", "services import pkg, pkg imports proto, and never the other way", layers},
		{"services", "a service never imports a service: each is built, released and scaled by itself", services},
		{"nats", "only these know the broker: the rest of the code speaks of envelopes", only(
			"github.com/nats-io/", "pkg/stream", "pkg/devserver", "services/processor/sink/nats")},
		{"redis", "only these know Redis: the rest of the code speaks of marks, cursors and tokens", only(
			"github.com/redis/go-redis/", "pkg/state", "pkg/connection", "pkg/devserver")},
		{"peers", "what we compare ourselves with is no dependency of ours, of tests neither", peers},
		{"ingress", "the receiving works without Redis and without QuickBooks", ingress},
		{"test-server", "no test server in a production binary", testServers},
		{"test-code", "what is for tests is imported by tests", testCode},
		{"doc", "a package says what it is, what it guarantees and what it does not do", docs},
		{"init", "what runs before main cannot be handed a logger, a context or a test's settings", inits},
		{"size", "a long file has several subjects", sizes},
		{"sleep", "a sleep cannot be cancelled: wait for a timer or the context", calls(sleeps)},
		{"global", "a global cannot be told apart in two tests or two parts of one process", calls(globals)},
		{"environment", "settings are read in one place, strictly", calls(environment)},
		{"exit", "only main ends the process: elsewhere deferred work would be lost", calls(exits)},
	}
}

// under reports whether path is one of the packages or below one.
func under(path string, packages ...string) bool {
	for _, p := range packages {
		if path == p || strings.HasPrefix(path, strings.TrimSuffix(p, "/")+"/") {
			return true
		}
	}
	return false
}

// helper reports whether a package is for tests though its files are not: its
// name ends in test, as in net/http/httptest.
func helper(path string) bool { return strings.HasSuffix(path, "test") }

package observe_test

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"
)

func read(t *testing.T, path ...string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{".."}, path...)...))
	require.NoError(t, err)
	return text
}

var row = regexp.MustCompile("(?m)^\\| `(ledgerfeed_[a-z_]+)` \\| ([^|]*) \\|")

// known are the metrics and their labels, by the page that is made of what the
// services register.
func known(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for _, m := range row.FindAllStringSubmatch(string(read(t, "..", "docs", "metrics.md")), -1) {
		all[m[1]] = strings.Split(strings.TrimSpace(m[2]), ", ")
	}
	require.Greater(t, len(all), 50)
	return all
}

// problems is what is wrong with an expression.
func problems(expr string, known map[string][]string) (found []string) {
	root, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		return []string{err.Error()}
	}
	allowed := []string{"le"}
	parser.Inspect(root, func(n parser.Node, _ []parser.Node) error {
		v, ok := n.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		name := strings.TrimSuffix(v.Name, "_bucket")
		has, ok := known[name]
		if !ok {
			found = append(found, "no service has the metric "+v.Name)
		}
		allowed = append(allowed, has...)
		for _, m := range v.LabelMatchers {
			if m.Name != model.MetricNameLabel && !slices.Contains(has, m.Name) {
				found = append(found, v.Name+" has no label "+m.Name)
			}
		}
		return nil
	})
	parser.Inspect(root, func(n parser.Node, _ []parser.Node) error {
		if a, ok := n.(*parser.AggregateExpr); ok {
			for _, label := range a.Grouping {
				if !slices.Contains(allowed, label) {
					found = append(found, "nothing in it has the label "+label)
				}
			}
		}
		return nil
	})
	return found
}

func rules(t *testing.T) (all []rulefmt.Rule) {
	t.Helper()
	groups, errs := rulefmt.Parse(read(t, "prometheus", "alerts", "ledgerfeed.yaml"), false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	require.Empty(t, errs)
	for _, g := range groups.Groups {
		all = append(all, g.Rules...)
	}
	require.NotEmpty(t, all)
	return all
}

func TestAlerts_AskForWhatThereIsAndHaveARunbook(t *testing.T) {
	runbook := string(read(t, "..", "docs", "operations.md"))
	metrics := known(t)
	var names []string
	for _, r := range rules(t) {
		names = append(names, r.Alert)
		require.Empty(t, problems(r.Expr, metrics), "%s: %s", r.Alert, r.Expr)
		require.Contains(t, []string{"critical", "warning"}, r.Labels["severity"], r.Alert)
		require.NotEmpty(t, r.Annotations["summary"], r.Alert)
		require.Contains(t, runbook, "\n### "+r.Alert+"\n")
		require.True(t, strings.HasSuffix(r.Annotations["runbook_url"], "docs/operations.md#"+strings.ToLower(r.Alert)), r.Alert)
	}
	for _, heading := range regexp.MustCompile(`(?m)^### (Ledgerfeed\w+)$`).FindAllStringSubmatch(runbook, -1) {
		require.Contains(t, names, heading[1], "a section about no alert")
	}
}

func TestDashboards_AskForWhatThereIs(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "prometheus", "dashboards", "*.json"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	metrics := known(t)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		var board struct {
			Panels []struct {
				Title   string
				Targets []struct{ Expr string }
			}
		}
		require.NoError(t, json.Unmarshal(text, &board))
		require.NotEmpty(t, board.Panels)
		for _, p := range board.Panels {
			require.NotEmpty(t, p.Targets, p.Title)
			for _, target := range p.Targets {
				require.Empty(t, problems(target.Expr, metrics), "%s: %s", p.Title, target.Expr)
			}
		}
	}
}

// The checks can fail.
func TestProblems_AreFound(t *testing.T) {
	metrics := known(t)
	for expr, want := range map[string]string{
		"max(ledgerfeed_processor_oldest_age_seconds)":                 "no service has the metric",
		`ledgerfeed_ingress_requests_total{status="503"}`:              "has no label status",
		"sum by (company) (ledgerfeed_processor_sink_backlog)":         "nothing in it has the label company",
		"rate(ledgerfeed_ingress_requests_total)":                      "expected type range vector",
		"histogram_quantile(0.99, ledgerfeed_ingress_acks_bucket) > 1": "no service has the metric",
	} {
		require.Contains(t, strings.Join(problems(expr, metrics), "\n"), want, expr)
	}
}

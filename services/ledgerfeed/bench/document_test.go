package bench_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The tables of docs/benchmarks.md stand between these lines.
const tablesBegin, tablesEnd = "<!-- ingress: begin, by make bench-doc -->\n", "<!-- ingress: end -->\n"

// The document has a place for the tables, and with -bench.update it is filled
// from the last run.
func TestDocument_TakesTheTables(t *testing.T) {
	name := filepath.Join("..", "..", "..", "docs", "benchmarks.md")
	raw, err := os.ReadFile(name)
	require.NoError(t, err)
	before, rest, begins := strings.Cut(string(raw), tablesBegin)
	_, after, ends := strings.Cut(rest, tablesEnd)
	require.True(t, begins && ends, "%s has no place for the tables", name)
	if !*update {
		return
	}
	raw, err = os.ReadFile(filepath.Join(*out, "ingress.json"))
	require.NoError(t, err, "run make bench-ingress first")
	var r report
	require.NoError(t, json.Unmarshal(raw, &r))
	require.NoError(t, os.WriteFile(name, []byte(before+tablesBegin+r.markdown()+tablesEnd+after), 0o644))
}

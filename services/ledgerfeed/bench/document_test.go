package bench_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The tables of docs/benchmarks.md stand between these lines.
const tablesBegin, tablesEnd = "<!-- %s: begin, by make bench-doc -->\n", "<!-- %s: end -->\n"

// The document has a place for the tables of each measurement, and with
// -bench.update those that were made are filled.
func TestDocument_TakesTheTables(t *testing.T) {
	name := filepath.Join("..", "..", "..", "docs", "benchmarks.md")
	filled := 0
	for measured, report := range map[string]tables{"ingress": &report{}, "processor": &processorReport{}} {
		raw, err := os.ReadFile(name)
		require.NoError(t, err)
		begin, end := fmt.Sprintf(tablesBegin, measured), fmt.Sprintf(tablesEnd, measured)
		before, rest, begins := strings.Cut(string(raw), begin)
		_, after, ends := strings.Cut(rest, end)
		require.True(t, begins && ends, "%s has no place for the tables of %s", name, measured)
		if !*update {
			continue
		}
		raw, err = os.ReadFile(filepath.Join(*out, measured+".json"))
		if errors.Is(err, os.ErrNotExist) {
			continue // what the document has of it stays
		}
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(raw, report))
		require.NoError(t, os.WriteFile(name, []byte(before+begin+report.markdown()+end+after), 0o644))
		filled++
	}
	require.True(t, filled > 0 || !*update, "run make bench-ingress or make bench-processor first")
}

package docs_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/docs"
)

func TestResponses_IsCurrent(t *testing.T) {
	page := filepath.Join(root, "docs", "responses.md")
	if *update {
		require.NoError(t, os.WriteFile(page, []byte(docs.Responses()), 0o644))
	}
	got, err := os.ReadFile(page)
	require.NoError(t, err)
	if diff := cmp.Diff(docs.Responses(), string(got)); diff != "" {
		t.Fatalf("docs/responses.md is out of date, run make generate (-want +got):\n%s", diff)
	}
}

func TestResponses_SayOfEachRowWhatFollows(t *testing.T) {
	rows := map[string][]string{}
	for line := range strings.Lines(docs.Responses()) {
		if cells := strings.Split(line, " | "); len(cells) == 6 {
			rows[strings.TrimPrefix(cells[0], "| ")] = cells
		}
	}
	for _, row := range qbo.Responses() {
		cells := rows[row.Name]
		require.Len(t, cells, 6, row.Name)
		require.Contains(t, cells[3], row.Meaning.String())
		require.NotEmpty(t, cells[4], row.Meaning)
		require.LessOrEqual(t, len(strings.Fields(cells[4])), 25, row.Meaning)
	}
}

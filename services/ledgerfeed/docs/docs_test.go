package docs_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/config"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/docs"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
)

var update = flag.Bool("update", false, "rewrite the generated pages")

func TestConfiguration_IsCurrent(t *testing.T) {
	page := filepath.Join("..", "..", "..", "docs", "configuration.md")
	if *update {
		require.NoError(t, os.WriteFile(page, []byte(docs.Configuration()), 0o644))
	}
	got, err := os.ReadFile(page)
	require.NoError(t, err)
	if diff := cmp.Diff(docs.Configuration(), string(got)); diff != "" {
		t.Fatalf("docs/configuration.md is out of date, run make generate (-want +got):\n%s", diff)
	}
}

func TestConfiguration_NamesEverySetting(t *testing.T) {
	cfg := processor.DefaultConfig()
	page := docs.Configuration()
	for _, f := range config.Describe(&cfg) {
		require.Contains(t, page, "`"+f.Env+"`")
		require.NotEmpty(t, f.Doc, "%s has no doc tag", f.Key)
	}
}

// Every group of every service is known to the others, which leave it alone.
func TestConfiguration_GroupsAreKnown(t *testing.T) {
	known := strings.Join(config.Groups(), " ")
	for line := range strings.Lines(docs.Configuration()) {
		if name, ok := strings.CutPrefix(line, "## "); ok {
			require.Contains(t, known, strings.TrimSpace(name))
		}
	}
}

package docs_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/docs"
)

// A section of a page that is otherwise written by hand.
func TestWebhooks_EventTypesAreCurrent(t *testing.T) {
	name := filepath.Join(root, "docs", "webhooks.md")
	page, err := os.ReadFile(name)
	require.NoError(t, err)
	before, rest, found := strings.Cut(string(page), docs.EventTypesHeading)
	require.True(t, found, "docs/webhooks.md has no section %q", docs.EventTypesHeading)
	section, after := docs.EventTypesHeading+rest, ""
	if i := strings.Index(rest, "\n\n## "); i >= 0 {
		section, after = docs.EventTypesHeading+rest[:i+1], rest[i+1:]
	}
	if *update {
		require.NoError(t, os.WriteFile(name, []byte(before+docs.EventTypes()+after), 0o644))
		return
	}
	if diff := cmp.Diff(docs.EventTypes(), section); diff != "" {
		t.Fatalf("docs/webhooks.md is out of date, run make generate (-want +got):\n%s", diff)
	}
}

func TestWebhooks_EventTypesAre108Of31Entities(t *testing.T) {
	require.Contains(t, docs.EventTypes(), "| **31 entities** | **108 types** |")
	require.Equal(t, 108, strings.Count(docs.EventTypes(), "✓"))
}

package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/docs"
)

// A section of a page that is otherwise written by hand.
func TestEntities_AreCurrent(t *testing.T) {
	name := filepath.Join(root, "docs", "entities.md")
	page, err := os.ReadFile(name)
	require.NoError(t, err)
	before, rest, found := strings.Cut(string(page), docs.EntitiesHeading)
	require.True(t, found, "docs/entities.md has no section %q", docs.EntitiesHeading)
	section, after := docs.EntitiesHeading+rest, ""
	if i := strings.Index(rest, "\n\n## "); i >= 0 {
		section, after = docs.EntitiesHeading+rest[:i+1], rest[i+1:]
	}
	if *update {
		require.NoError(t, os.WriteFile(name, []byte(before+docs.Entities()+after), 0o644))
		return
	}
	if diff := cmp.Diff(docs.Entities(), section); diff != "" {
		t.Fatalf("docs/entities.md is out of date, run make generate (-want +got):\n%s", diff)
	}
	require.Contains(t, section, "| **42 entities** |")
}

// A page names the scope of what it promises.
func TestPages_PromiseNothingOfEveryRecord(t *testing.T) {
	err := filepath.WalkDir(filepath.Join(root, "docs"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".md" || filepath.Base(filepath.Dir(path)) == "adr" {
			return err
		}
		page, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		require.NotContains(t, strings.ToLower(string(page)), "every record", path)
		return nil
	})
	require.NoError(t, err)
}

package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

var quoted = regexp.MustCompile(`"([^"]+)"`)

// The page lists the permissions that the services were tested with.
func TestDeployment_ListsTheNATSPermissions(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "deployment.md"))
	require.NoError(t, err)
	_, section, found := strings.Cut(string(page), "### NATS permissions")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n#")
	for _, service := range []string{"ingress", "processor", "reconciler"} {
		_, block, found := strings.Cut(section, "\n"+service+": {")
		require.True(t, found, service)
		block, _, _ = strings.Cut(block, "\n}")
		publish, subscribe, _ := strings.Cut(block, "subscribe:")
		a, _ := stream.AccessOf(service)
		require.ElementsMatch(t, a.Publish, names(publish), service)
		require.ElementsMatch(t, a.Subscribe, names(subscribe), service)
	}
}

func names(text string) (all []string) {
	for _, m := range quoted.FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	return all
}

// The page lists the rights of the Redis user that the services were tested with.
func TestDeployment_NamesTheRedisRights(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "deployment.md"))
	require.NoError(t, err)
	require.Contains(t, string(page), "\nACL SETUSER ledgerfeed on >PASSWORD "+state.ACLRule+"\n")
}

package cli

import (
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
)

// Every command shows how it is used; what changes something can be tried dry and
// asks, and what lists has JSON.
func TestHelp_OfEveryCommand(t *testing.T) {
	parser, err := kong.New(&grammar{}, kong.Name("ledgerfeed"))
	require.NoError(t, err)
	leaves := parser.Model.Leaves(true)
	require.Greater(t, len(leaves), 40)
	flags := func(n *kong.Node) map[string]bool {
		names := map[string]bool{}
		for _, group := range n.AllFlags(true) {
			for _, f := range group {
				names[f.Name] = true
			}
		}
		return names
	}
	changes := map[string]bool{
		"dead requeue": true, "dead purge": true, "cursor rewind": true, "scan start": true, "scan cancel": true, "backfill": true, "replay": true,
		"realm park": true, "realm unpark": true, "realm disconnect": true, "token import": true, "token refresh": true, "token rotate": true,
		"token revoke": true, "sink pause": true, "sink resume": true, "deletions approve": true, "deletions reject": true,
		"session end": true,
	}
	lists := map[string]bool{
		"dead ls": true, "dead show": true, "cursor ls": true, "cursor show": true, "scan status": true, "gap ls": true, "gap show": true,
		"gap findings": true, "gap coverage": true, "audit": true, "realm ls": true, "realm show": true, "token status": true, "budget": true,
		"doctor": true, "sink ls": true, "sink show": true, "config show": true, "version": true, "chaos": true, "load": true, "deletions ls": true,
		"actions ls": true, "actions verify": true,
	}
	for _, n := range leaves {
		require.Contains(t, n.Detail, "Examples:", n.Path())
		name := strings.TrimPrefix(n.Path(), "ledgerfeed ")
		have := flags(n)
		if changes[name] {
			require.True(t, have["dry-run"] && have["yes"], "%s: --dry-run and --yes", name)
			delete(changes, name)
		}
		if lists[name] {
			require.True(t, have["json"], "%s: --json", name)
			delete(lists, name)
		}
	}
	require.Empty(t, changes)
	require.Empty(t, lists)
}

// Every command is an action that is recorded, or named as one that changes nothing.
func TestRecord_KnowsTheCommandsThatChangeNothing(t *testing.T) {
	parser, err := kong.New(&grammar{}, kong.Name("ledgerfeed"))
	require.NoError(t, err)
	have := map[string]bool{}
	for _, n := range parser.Model.Leaves(true) {
		have[strings.TrimPrefix(n.Path(), "ledgerfeed ")] = true
	}
	for _, name := range changesNothing() {
		require.True(t, have[name], name)
		for _, verb := range []string{"pause", "resume", "purge", "requeue", "rewind", "approve", "reject", "revoke", "rotate", "import", "disconnect", "park", "erase"} {
			require.NotContains(t, name, verb)
		}
	}
}

// What is recorded of a command line names what it was about, and no secret and no address.
func TestRecord_ShowsArgumentsWithoutSecrets(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"dead", "purge", "17", "18", "--yes"}, "17 18"},
		{[]string{"dead", "purge", "--reason", "unreadable,sink-refused", "--nats-url", "nats://broker:4222", "-y"}, "--reason=unreadable sink-refused"},
		{[]string{"sink", "pause", "crm", "--redis-url", "redis://:hunter2@redis/0", "--yes"}, "crm"},
		{[]string{"audit", "--postgres-url", "postgres://u:hunter2@db/books", "--repair", "--yes"}, "--repair=true"},
	} {
		parser, err := kong.New(&grammar{}, kong.Name("ledgerfeed"))
		require.NoError(t, err)
		cmd, err := parser.Parse(tc.args)
		require.NoError(t, err)
		got := arguments(cmd)
		require.Contains(t, got, tc.want)
		require.NotContains(t, got, "hunter2")
		require.NotContains(t, got, "broker")
	}
}

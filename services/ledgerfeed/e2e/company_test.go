package e2e_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

// Wherever a command prints a company's id it prints the name, too.
func TestCompanyNames_StandBesideTheIDs(t *testing.T) {
	t.Parallel()
	const id, name = "9341453000000001", "Craig's Design & Landscaping"
	o := newOffice(t, 0, id)
	b := newBroker(t)
	o.env = append(o.env, "LEDGERFEED_NATS_URL="+b.url)
	store, err := state.Open(t.Context(), state.Options{Config: state.Config{URL: secret.String(strings.TrimPrefix(o.env[0], "LEDGERFEED_REDIS_URL="))}})
	require.NoError(t, err)
	t.Cleanup(func() { store.Close() })
	require.NoError(t, store.SetCompany(t.Context(), state.Company{Realm: id, Name: name, ReadAt: time.Now()}))
	key, _ := strings.CutPrefix(o.env[1], "LEDGERFEED_CONNECTION_KEYS=")
	oauth, err := qbo.NewOAuth(qbo.OAuthOptions{ClientID: "app", ClientSecret: "app-secret"})
	require.NoError(t, err)
	connections, err := connection.New(connection.Options{State: store, Refresher: oauth, Config: connection.Config{Keys: []secret.String{secret.String(key)}}})
	require.NoError(t, err)
	access, refresh := o.sim.Connect(id)
	soon := time.Now().Add(24 * time.Hour)
	require.NoError(t, connections.Connect(t.Context(), id, "books", qbo.Token{Access: access, Refresh: refresh, AccessExpires: time.Now().Add(time.Hour), RefreshExpires: soon}))
	budget := store.Budget(0)
	budget.Observe(qbo.Call{Realm: id, Kind: "query", Status: 200})
	_, err = budget.Usage(t.Context())
	require.NoError(t, err)
	require.NoError(t, store.AdvanceCursors(t.Context(), id, map[string]time.Time{"Invoice": time.Now().Add(-time.Hour)}))
	held, err := store.HeldDeletion(t.Context(), id, "Vendor")
	require.NoError(t, err)
	held.State, held.Count, held.Of, held.Since, held.At = state.DeletionHeld, 30, 100, time.Now(), time.Now()
	require.NoError(t, store.HoldDeletion(t.Context(), held))
	_, _, err = store.Ask(t.Context(), state.Job{Realm: id})
	require.NoError(t, err)
	require.NoError(t, b.conn.PublishDead(t.Context(), stream.DeadLetter{Reason: stream.ReasonUnreadable, RealmID: id, Body: []byte("x"), At: deadAt}))

	for _, args := range []string{
		"realm ls", "realm show " + id, "realm park " + id + " --yes", "realm unpark " + id + " --yes",
		"token status " + id, "token status", "token refresh " + id + " --yes", "budget",
		"cursor ls", "cursor show --realm " + id, "cursor rewind --realm " + id + " --to 7d --dry-run",
		"scan status", "scan start --realm " + id + " --dry-run", "scan cancel --realm " + id + " --dry-run",
		"deletions ls", "deletions approve " + id + " Vendor --dry-run", "dead ls", "dead show 1",
	} {
		words := strings.Fields(args)
		if strings.HasPrefix(args, "cursor show") {
			// The table is about one company; its JSON says which.
			require.Contains(t, o.ok(append(words, "--json")...), `"company":"`+name+`"`, args)
			continue
		}
		require.Contains(t, o.ok(words...), name, args)
		if !strings.HasPrefix(args, "deletions approve") {
			out := o.ok(append(words, "--json")...)
			require.Contains(t, strings.ReplaceAll(out, `\u0026`, "&"), `"company":"`+name+`"`, args)
		}
	}
	// Without Redis the list is as it was.
	require.NotContains(t, b.run("dead", "ls").stdout.String(), "COMPANY")
}

package e2e_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// An entity that QuickBooks refuses in a company is named, with Intuit's text, and its
// old cursor is not the company's.
func TestRefused_CommandsNameTheEntity(t *testing.T) {
	t.Parallel()
	redis := devtest.Redis(t)
	store, err := state.Open(t.Context(), state.Options{Config: state.Config{URL: secret.String(redis)}})
	require.NoError(t, err)
	defer store.Close()
	const realm, text = "9341453000000001", "quickbooks answered 400 ValidationFault: 5020 Permission Denied Error"
	ctx, now := t.Context(), time.Now().UTC().Truncate(time.Second)
	require.NoError(t, store.Redis().SAdd(ctx, "lf:1:realms", realm).Err())
	require.NoError(t, store.AdvanceCursors(ctx, realm, map[string]time.Time{"Invoice": now.Add(-time.Hour), "Budget": now.AddDate(0, -2, 0)}))
	for _, way := range []string{state.RefusedByCDC, state.RefusedByQuery} {
		require.NoError(t, store.Refused(ctx, realm, state.Refusal{Entity: "Budget", Way: way, At: now, First: now.AddDate(0, -2, 0), Text: text, Lasting: true}))
	}
	require.NoError(t, store.Refused(ctx, realm, state.Refusal{Entity: "Class", Way: state.RefusedByQuery, At: now, First: now, Text: "quickbooks answered 404"}))
	_, _, err = store.Ask(ctx, state.Job{Realm: realm, By: "somebody"})
	require.NoError(t, err)

	shown := on(t, redis, "cursor", "show", "--realm", realm)
	require.Zero(t, shown.code(), shown.stderr.String())
	require.Regexp(t, `(?m)^Budget .*left out since \d{4}-\d\d-\d\d, QuickBooks refuses it for this company: `+text+`$`, shown.stdout.String())
	require.Regexp(t, `(?m)^Class .*refused by QuickBooks, will retry: quickbooks answered 404$`, shown.stdout.String())
	all := rows[map[string]any](t, on(t, redis, "cursor", "show", "--realm", realm, "--json"))
	require.Len(t, all, 3)
	require.Equal(t, "query", all[0]["refused"])
	require.Equal(t, text, all[0]["refused_text"])

	status := on(t, redis, "scan", "status", "--realm", realm)
	require.Zero(t, status.code(), status.stderr.String())
	require.Regexp(t, `(?m)^realm `+realm+`( \(.+\))?: Budget left out since `, status.stdout.String())
	require.Contains(t, status.stdout.String(), text)

	list := rows[map[string]any](t, on(t, redis, "cursor", "ls", "--json"))
	require.Len(t, list, 1)
	require.Less(t, list[0]["age_seconds"], 86400.0)
}
